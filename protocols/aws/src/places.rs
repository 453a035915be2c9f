//! Accounts and regions, and the virtual hosts that they stand for (DOORS 7).

use std::sync::Arc;

/// An account, a region, and the virtual host that they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The account: twelve digits.
    pub account: Arc<str>,
    /// The region.
    pub region: Arc<str>,
    /// The name of the virtual host.
    pub vhost: Arc<str>,
}

/// Which virtual host an account and a region are. The first place is for who names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    places: Vec<Placed>,
    /// All regions of an account are the one that it was given first.
    merged: bool,
    /// Others are made on first use, as `<account>/<region>`.
    made: bool,
}

impl Default for Places {
    fn default() -> Self {
        let default = Placed {
            account: "000000000000".into(),
            region: "us-east-1".into(),
            vhost: "/".into(),
        };
        Self::new(vec![default], false, false)
    }
}

impl Places {
    /// From a list that is not empty. `merged`: all regions are one; `made`: what is not listed is made on first use.
    ///
    /// # Panics
    /// If the list is empty.
    #[must_use]
    pub fn new(places: Vec<Placed>, merged: bool, made: bool) -> Self {
        assert!(!places.is_empty(), "there is a place for who names none");
        Self {
            places,
            merged,
            made,
        }
    }

    /// The place for who names none.
    #[must_use]
    pub fn first(&self) -> &Placed {
        &self.places[0]
    }

    /// Whether places that are not listed are made on first use.
    #[must_use]
    pub const fn are_made(&self) -> bool {
        self.made
    }

    /// The place of another account's resource that a caller of a place names, in the region that he has asked. `None`: there is no such
    /// place, or it is his own.
    #[must_use]
    pub fn across(&self, from: &Placed, account: &str, region: Option<&str>) -> Option<Placed> {
        let same_region = self.merged || region.is_none_or(|region| region == &*from.region);
        if account == &*from.account || !same_region {
            return None;
        }
        self.find(account, region.unwrap_or(&from.region))
            .filter(|place| place.vhost != from.vhost && place.account != from.account)
    }

    /// The account and the region that a virtual host stands for. `None`: for none.
    #[must_use]
    pub fn of_vhost(&self, vhost: &str) -> Option<Placed> {
        let known = self.places.iter().find(|place| &*place.vhost == vhost);
        known.cloned().or_else(|| {
            let (account, region) = vhost.split_once('/')?;
            let place = self.find(account, region)?;
            (&*place.vhost == vhost).then_some(place)
        })
    }

    /// The place of an account and a region. `None`: there is none.
    #[must_use]
    pub fn find(&self, account: &str, region: &str) -> Option<Placed> {
        let known = self
            .places
            .iter()
            .find(|place| &*place.account == account && (self.merged || &*place.region == region));
        if let Some(known) = known {
            return Some(known.clone());
        }
        if !self.made || !is_account(account) || !is_region(region) {
            return None;
        }
        let region = if self.merged {
            Arc::clone(&self.first().region)
        } else {
            region.into()
        };
        Some(Placed {
            account: account.into(),
            vhost: format!("{account}/{region}").into(),
            region,
        })
    }
}

/// Twelve digits.
#[must_use]
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lower-case letters, digits and hyphens, as regions are named.
#[must_use]
pub fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(merged: bool, made: bool) -> Places {
        let place = |account: &str, region: &str, vhost: &str| Placed {
            account: account.into(),
            region: region.into(),
            vhost: vhost.into(),
        };
        let listed = vec![
            place("000000000000", "us-east-1", "/"),
            place("111111111111", "eu-west-1", "billing"),
        ];
        Places::new(listed, merged, made)
    }

    #[test]
    fn doors_7_an_account_and_a_region_are_a_virtual_host() {
        let vhost = |places: &Places, account: &str, region: &str| {
            places
                .find(account, region)
                .map(|place| place.vhost.to_string())
        };
        let listed = places(false, false);
        assert_eq!(
            vhost(&listed, "000000000000", "us-east-1").as_deref(),
            Some("/")
        );
        assert_eq!(
            vhost(&listed, "111111111111", "eu-west-1").as_deref(),
            Some("billing")
        );
        assert_eq!(vhost(&listed, "111111111111", "us-east-1"), None);
        assert_eq!(vhost(&listed, "222222222222", "us-east-1"), None);
        let merged = places(true, false);
        let found = merged.find("111111111111", "us-west-2").expect("merged");
        assert_eq!((&*found.vhost, &*found.region), ("billing", "eu-west-1"));
        let made = places(false, true);
        assert_eq!(
            vhost(&made, "222222222222", "us-west-2").as_deref(),
            Some("222222222222/us-west-2")
        );
        assert_eq!(vhost(&made, "22222222222x", "us-west-2"), None);
        assert_eq!(vhost(&made, "222222222222", "US/x"), None);
        assert_eq!(
            vhost(&places(true, true), "222222222222", "us-west-2").as_deref(),
            Some("222222222222/us-east-1")
        );
    }

    #[test]
    fn doors_7_a_virtual_host_is_an_account_and_a_region() {
        let place = |places: &Places, vhost: &str| {
            let found = places.of_vhost(vhost)?;
            Some(format!("{}:{}", found.account, found.region))
        };
        let listed = places(false, false);
        assert_eq!(
            place(&listed, "/").as_deref(),
            Some("000000000000:us-east-1")
        );
        assert_eq!(
            place(&listed, "billing").as_deref(),
            Some("111111111111:eu-west-1")
        );
        assert_eq!(place(&listed, "222222222222/us-west-2"), None);
        assert_eq!(place(&listed, "elsewhere"), None);
        let made = places(false, true);
        assert_eq!(
            place(&made, "222222222222/us-west-2").as_deref(),
            Some("222222222222:us-west-2")
        );
        // That place is another virtual host.
        assert_eq!(place(&made, "111111111111/eu-west-1"), None);
        assert_eq!(place(&made, "x/us-west-2"), None);
    }
}

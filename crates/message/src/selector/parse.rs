//! Text to tree. Precedence, loosest first: OR, AND, NOT, conditions, `+ -`, `* /`, signs.
//!
//! ```text
//! or        = and *( OR and )
//! and       = not *( AND not )
//! not       = *NOT condition
//! condition = sum [ compare sum / [NOT] BETWEEN sum AND sum / [NOT] IN "(" text *( "," text ) ")"
//!                 / [NOT] LIKE text [ ESCAPE text ] / IS [NOT] NULL ]
//! sum       = product *( ("+" / "-") product )
//! product   = signed *( ("*" / "/") signed )
//! signed    = *( "+" / "-" ) ( literal / name / "(" or ")" )
//! ```

use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag, tag_no_case, take_while, take_while1},
    character::complete::{anychar, char, digit1, hex_digit1, multispace0},
    combinator::{map_opt, opt, recognize, value, verify},
    multi::fold_many0,
    sequence::{delimited, pair, preceded, terminated},
};

use super::{
    Calculate, Compare, DEPTH_MAX, Glob, LIKE_LEN_MAX, Node, SELECTOR_LEN_MAX, SelectorError,
};

const KEYWORDS: [&str; 13] = [
    "OR", "AND", "NOT", "BETWEEN", "IN", "LIKE", "ESCAPE", "IS", "NULL", "TRUE", "FALSE", "XPATH",
    "XQUERY",
];

/// Reads a whole selector.
pub(super) fn selector(text: &str) -> Result<Node, SelectorError> {
    if text.len() > SELECTOR_LEN_MAX {
        return Err(SelectorError::TooLong);
    }
    let mut reader = Reader {
        text,
        rest: text,
        hyphens: false,
        depth: 0,
    };
    loop {
        reader.skip_space();
        if reader.take(tag("hyphenated_props:")).is_some() {
            reader.hyphens = true;
        } else if reader.take(tag("convert_string_expressions:")).is_none() {
            break;
        }
    }
    let node = reader.or()?;
    reader.skip_space();
    if !reader.rest.is_empty() {
        return Err(reader.expected("the end"));
    }
    Ok(node)
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    /// A hyphen may be a part of a name.
    hyphens: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn take<O>(
        &mut self,
        mut parser: impl Parser<&'a str, Output = O, Error = nom::error::Error<&'a str>>,
    ) -> Option<O> {
        let (rest, found) = parser.parse(self.rest).ok()?;
        self.rest = rest;
        Some(found)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    const fn expected(&self, wanted: &'static str) -> SelectorError {
        let at = self.text.len() - self.rest.len();
        SelectorError::Expected { wanted, at }
    }

    fn word(&mut self, word: &'static str) -> bool {
        let hyphens = self.hyphens;
        let whole = verify(recognize(name(hyphens)), move |found: &str| {
            found.eq_ignore_ascii_case(word)
        });
        self.take(preceded(multispace0, whole)).is_some()
    }

    fn sign(&mut self, sign: &'static str) -> bool {
        self.take(preceded(multispace0, tag(sign))).is_some()
    }

    fn deeper(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Node, SelectorError>,
    ) -> Result<Node, SelectorError> {
        if self.depth == DEPTH_MAX {
            return Err(SelectorError::TooDeep);
        }
        self.depth += 1;
        let node = read(self);
        self.depth -= 1;
        node
    }

    fn or(&mut self) -> Result<Node, SelectorError> {
        let mut nodes = vec![self.and()?];
        while self.word("OR") {
            nodes.push(self.and()?);
        }
        Ok(one_or(nodes, Node::Or))
    }

    fn and(&mut self) -> Result<Node, SelectorError> {
        let mut nodes = vec![self.not()?];
        while self.word("AND") {
            nodes.push(self.not()?);
        }
        Ok(one_or(nodes, Node::And))
    }

    fn not(&mut self) -> Result<Node, SelectorError> {
        if self.word("NOT") {
            return Ok(Node::Not(Box::new(self.deeper(Self::not)?)));
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Node, SelectorError> {
        let left = self.sum()?;
        if self.word("IS") {
            let not = self.word("NOT");
            if !self.word("NULL") {
                return Err(self.expected("NULL"));
            }
            return Ok(negated(not, Node::IsNull(Box::new(left))));
        }
        let compare = preceded(
            multispace0,
            alt((
                value(Compare::NotEqual, alt((tag("<>"), tag("!=")))),
                value(Compare::LessOrEqual, tag("<=")),
                value(Compare::GreaterOrEqual, tag(">=")),
                value(Compare::Equal, tag("=")),
                value(Compare::Less, tag("<")),
                value(Compare::Greater, tag(">")),
            )),
        );
        if let Some(compare) = self.take(compare) {
            let right = self.sum()?;
            return Ok(Node::Compare(compare, Box::new((left, right))));
        }
        let not = self.word("NOT");
        let node = if self.word("BETWEEN") {
            let low = self.sum()?;
            if !self.word("AND") {
                return Err(self.expected("AND"));
            }
            Node::Between(Box::new((left, low, self.sum()?)))
        } else if self.word("IN") {
            Node::In(Box::new(left), self.texts()?)
        } else if self.word("LIKE") {
            let at = self.rest;
            let pattern = self.text()?;
            let escape = if self.word("ESCAPE") {
                let text = self.text()?;
                let mut chars = text.chars();
                let (Some(escape), None) = (chars.next(), chars.next()) else {
                    return Err(self.expected("one character to escape with"));
                };
                Some(escape)
            } else {
                None
            };
            let Some(globs) = globs(&pattern, escape) else {
                self.rest = at;
                return Err(self.expected("a pattern of at most 256 bytes without open escapes"));
            };
            Node::Like(Box::new(left), globs)
        } else if not {
            return Err(self.expected("BETWEEN, IN or LIKE"));
        } else {
            return Ok(left);
        };
        Ok(negated(not, node))
    }

    fn texts(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.sign("(") {
            return Err(self.expected("("));
        }
        let mut texts = vec![self.text()?];
        while self.sign(",") {
            texts.push(self.text()?);
        }
        if self.sign(")") {
            Ok(texts)
        } else {
            Err(self.expected(", or )"))
        }
    }

    fn text(&mut self) -> Result<String, SelectorError> {
        self.take(preceded(multispace0, text))
            .ok_or_else(|| self.expected("a text in single quotes"))
    }

    fn sum(&mut self) -> Result<Node, SelectorError> {
        let mut left = self.product()?;
        loop {
            let what = if self.sign("+") {
                Calculate::Add
            } else if self.sign("-") {
                Calculate::Subtract
            } else {
                return Ok(left);
            };
            let right = self.product()?;
            left = self.calculate(what, left, right)?;
        }
    }

    fn product(&mut self) -> Result<Node, SelectorError> {
        let mut left = self.signed()?;
        loop {
            let what = if self.sign("*") {
                Calculate::Multiply
            } else if self.sign("/") {
                Calculate::Divide
            } else {
                return Ok(left);
            };
            let right = self.signed()?;
            left = self.calculate(what, left, right)?;
        }
    }

    /// A chain of operators is as deep a tree as nested brackets.
    fn calculate(&self, what: Calculate, left: Node, right: Node) -> Result<Node, SelectorError> {
        fn depth(node: &Node) -> usize {
            match node {
                Node::Calculate(_, sides) => 1 + depth(&sides.0),
                _ => 0,
            }
        }
        if depth(&left) + self.depth >= DEPTH_MAX {
            return Err(SelectorError::TooDeep);
        }
        Ok(Node::Calculate(what, Box::new((left, right))))
    }

    fn signed(&mut self) -> Result<Node, SelectorError> {
        if self.sign("-") {
            return Ok(Node::Negate(Box::new(self.deeper(Self::signed)?)));
        }
        if self.sign("+") {
            return self.deeper(Self::signed);
        }
        if self.sign("(") {
            let node = self.deeper(Self::or)?;
            return if self.sign(")") {
                Ok(node)
            } else {
                Err(self.expected(")"))
            };
        }
        if self.word("TRUE") {
            return Ok(Node::Bool(true));
        }
        if self.word("FALSE") {
            return Ok(Node::Bool(false));
        }
        self.skip_space();
        if let Some(text) = self.take(text) {
            return Ok(Node::Text(text));
        }
        if let Some(number) = self.take(number) {
            return Ok(number);
        }
        let hyphens = self.hyphens;
        let own = verify(name(hyphens), |found: &&str| {
            !KEYWORDS.iter().any(|word| found.eq_ignore_ascii_case(word))
        });
        match self.take(own) {
            Some(name) => Ok(Node::Name(name.to_owned())),
            None => Err(self.expected("a value")),
        }
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() == 1 {
        nodes.remove(0)
    } else {
        many(nodes)
    }
}

fn negated(not: bool, node: Node) -> Node {
    if not { Node::Not(Box::new(node)) } else { node }
}

/// A Java identifier; dots too, as names of other protocols have them.
fn name<'a>(
    hyphens: bool,
) -> impl Parser<&'a str, Output = &'a str, Error = nom::error::Error<&'a str>> {
    let first = |c: char| c.is_alphabetic() || matches!(c, '_' | '$');
    let later =
        move |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.') || (hyphens && c == '-');
    recognize(pair(verify(anychar, move |c| first(*c)), take_while(later)))
}

/// In single quotes, which are doubled inside.
fn text(input: &str) -> IResult<&str, String> {
    let part = alt((value("'", tag("''")), take_while1(|c: char| c != '\'')));
    delimited(
        char('\''),
        fold_many0(part, String::new, |all, part: &str| all + part),
        char('\''),
    )
    .parse(input)
}

/// An integer (decimal or hexadecimal) or a floating-point number, with Java's suffixes.
fn number(input: &str) -> IResult<&str, Node> {
    alt((hexadecimal, float, integer)).parse(input)
}

fn hexadecimal(input: &str) -> IResult<&str, Node> {
    let digits = preceded(tag_no_case("0x"), hex_digit1);
    map_opt(digits, |digits| {
        i64::from_str_radix(digits, 16).ok().map(Node::Integer)
    })
    .parse(input)
}

fn exponent(input: &str) -> IResult<&str, &str> {
    let sign = opt(alt((char('+'), char('-'))));
    recognize((alt((char('e'), char('E'))), sign, digit1)).parse(input)
}

fn float(input: &str) -> IResult<&str, Node> {
    let digits = take_while(|c: char| c.is_ascii_digit());
    let fraction = recognize((digit1, char('.'), digits, opt(exponent)));
    let bare_fraction = recognize((char('.'), digit1, opt(exponent)));
    let whole = recognize(pair(digit1, exponent));
    let suffix = opt(alt((char('f'), char('F'), char('d'), char('D'))));
    let digits = terminated(alt((fraction, bare_fraction, whole)), suffix);
    map_opt(digits, |digits: &str| digits.parse().ok().map(Node::Float)).parse(input)
}

fn integer(input: &str) -> IResult<&str, Node> {
    let suffix = opt(alt((char('l'), char('L'))));
    let (rest, digits): (&str, &str) = terminated(digit1, suffix).parse(input)?;
    // What is too large for an integer is one approximately.
    let node = digits.parse().map_or_else(
        |_| Node::Float(digits.parse().unwrap_or(f64::INFINITY)),
        Node::Integer,
    );
    Ok((rest, node))
}

/// The pattern of a LIKE. `None`: too long, or an escape before nothing that needs it.
fn globs(pattern: &str, escape: Option<char>) -> Option<Vec<Glob>> {
    if pattern.len() > LIKE_LEN_MAX {
        return None;
    }
    let mut globs = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        globs.push(match c {
            c if Some(c) == escape => Glob::Char(chars.next()?),
            '_' => Glob::One,
            '%' => Glob::Many,
            c => Glob::Char(c),
        });
    }
    // Several in a row are one, so that no pattern needs more than one way back.
    globs.dedup_by(|a, b| (*a, *b) == (Glob::Many, Glob::Many));
    Some(globs)
}

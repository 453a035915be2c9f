//! The shapes of inputs and outputs, with the constraints that the API reference puts on inputs.

mod checks;
pub(crate) mod input;
pub(crate) mod output;

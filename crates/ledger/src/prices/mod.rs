//! What tokens cost: price lists in LiteLLM's format, and machines by the hour.
//!
//! A price is exact: rates are whole femto-dollars, a request is summed up in integers and rounded up to a nano-dollar once. What has no
//! price is [`Unpriced`], never free.

mod error;
mod list;
mod machine;
mod parse;
mod price;
mod rate;

pub use error::{PriceError, Unpriced};
pub use list::PriceList;
pub use machine::{MachineError, MachineRate};
pub use price::{Price, Rates};
pub use rate::Rate;

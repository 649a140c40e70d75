//! `dns`: a name resolves to at least one address.

use super::{connection::resolve, failure::Failure};
use crate::contract::DnsCheck;

pub(super) async fn run(check: &DnsCheck) -> Result<(), Failure> {
    // The port is of no matter to the look-up.
    resolve(&check.name, 0, "dns").await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passes_what_resolves_and_names_what_does_not() {
        let check = |name: &str| DnsCheck { name: name.into() };
        assert_eq!(run(&check("localhost")).await, Ok(()));
        let failure = run(&check("no-such-host.invalid")).await.unwrap_err();
        assert_eq!(
            failure.into_text(),
            "dns: \"no-such-host.invalid\" cannot be resolved"
        );
    }
}

//! `env`: an environment variable of the gate is set and not empty.

use super::failure::Failure;
use crate::contract::EnvCheck;

pub(super) fn run(check: &EnvCheck) -> Result<(), Failure> {
    let name = &check.name;
    match std::env::var_os(name) {
        Some(value) if !value.is_empty() => Ok(()),
        Some(_) => Err(Failure::plain(format!("env {name} is empty"))),
        None => Err(Failure::plain(format!("env {name} is not set"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) -> Result<(), Failure> {
        run(&EnvCheck { name: name.into() })
    }

    #[test]
    fn passes_what_is_set_and_names_what_is_not() {
        assert_eq!(check("PATH"), Ok(()));
        let failure = check("PORTCULLIS_NO_SUCH_VARIABLE").unwrap_err();
        assert_eq!(
            failure.into_text(),
            "env PORTCULLIS_NO_SUCH_VARIABLE is not set"
        );
    }
}

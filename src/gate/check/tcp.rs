//! `tcp`: a port accepts.

use super::{connection::Target, failure::Failure};

pub(super) async fn run(target: &Target) -> Result<(), Failure> {
    target.connect(&subject(target)).await.map(drop)
}

pub(super) fn subject(target: &Target) -> String {
    match target {
        Target::App(_) => format!("tcp port {} of the app", target.port()),
        Target::Host(..) => format!("tcp {}", target.authority()),
    }
}

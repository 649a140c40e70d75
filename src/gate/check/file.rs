//! `file`: a file exists, can be read and is not empty.

use tokio::io::AsyncReadExt as _;

use super::failure::Failure;
use crate::contract::FileCheck;

pub(super) async fn run(check: &FileCheck) -> Result<(), Failure> {
    let subject = subject(check);
    let mut file = tokio::fs::File::open(&check.path)
        .await
        .map_err(|error| Failure::io(&subject, &error))?;
    match file.read(&mut [0]).await {
        Ok(0) => Err(Failure::new(subject, "is empty")),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::io(subject, &error)),
    }
}

pub(super) fn subject(check: &FileCheck) -> String {
    format!("file {}", check.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("good"), "x").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        for (path, expected) in [
            (at("good"), Ok(())),
            (at("empty"), Err("is empty")),
            (at("absent"), Err("does not exist")),
            (at(""), Err("is a directory")),
        ] {
            let check = FileCheck { path: path.clone() };
            let expected = expected.map_err(|why| format!("file {path}: {why}"));
            assert_eq!(run(&check).await.map_err(Failure::into_text), expected);
        }
    }
}

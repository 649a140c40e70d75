//! `postgres` and `redis` against real servers.

use super::{
    checks::run,
    harness::{free_port, require_no_secret},
};
use crate::support::databases::{Certificates, Database};

/// What a check finds whose URL stands in a file.
async fn check(kind: &str, url: &str, more: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, format!("{url}\n")).unwrap();
    let json = format!(
        r#""{kind}": {{"urlFrom": {{"file": "{}"}}{more}}}"#,
        file.display()
    );
    let found = run(&json, ([127, 0, 0, 1], 1).into()).await;
    require_no_secret(&found);
    found
}

#[tokio::test]
async fn postgres_is_asked_with_every_mode_of_tls_and_says_what_is_wrong() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let database = Database::postgres(&certificates);
    let port = database.port;
    let url = format!("postgres://app:hush@localhost:{port}/shop");
    let authority = |certificates: &Certificates| {
        format!(r#", "caFile": "{}""#, certificates.authority().display())
    };
    for (url, more, expected) in [
        (url.clone(), String::new(), Ok(())),
        (
            format!("{url}?sslmode=disable&schema=x"),
            String::new(),
            Ok(()),
        ),
        (format!("{url}?sslmode=require"), String::new(), Ok(())),
        (
            format!("{url}?sslmode=verify-full"),
            authority(&certificates),
            Ok(()),
        ),
        (
            url.clone(),
            r#", "tls": "verify-full""#.to_owned() + &authority(&certificates),
            Ok(()),
        ),
        (
            format!("{url}?sslmode=verify-full"),
            authority(&others),
            Err("its certificate is not to be trusted"),
        ),
        (
            format!("postgres://app:hushhush@localhost:{port}/shop"),
            String::new(),
            Err("the password is refused"),
        ),
        (
            format!("postgres://app:hush@localhost:{port}/hushed"),
            String::new(),
            Err("the database does not exist"),
        ),
    ] {
        let expected = expected.map_err(|why| format!("postgres localhost:{port}: {why}"));
        assert_eq!(
            check("postgres", &url, &more).await,
            expected,
            "{url} {more}"
        );
    }
    drop(database);
    assert_eq!(
        check("postgres", &url, "").await,
        Err(format!("postgres localhost:{port}: connection refused"))
    );
    assert_eq!(
        check("postgres", "hush", "").await,
        Err("postgres: its URL cannot be read: postgres://user@host:5432/database".to_owned())
    );
}

#[tokio::test]
async fn redis_is_asked_with_and_without_tls_and_says_what_is_wrong() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let (port, tls_port) = (free_port(), free_port());
    let server = Database::redis(&certificates, port, tls_port);
    let authority = |certificates: &Certificates| {
        format!(r#", "caFile": "{}""#, certificates.authority().display())
    };
    let url = format!("redis://:hush@localhost:{port}/1");
    let tls = format!("rediss://:hush@localhost:{tls_port}");
    for (url, more, on, expected) in [
        (url.clone(), String::new(), port, Ok(())),
        (tls.clone(), authority(&certificates), tls_port, Ok(())),
        (
            tls.clone(),
            r#", "tls": "require""#.to_owned(),
            tls_port,
            Ok(()),
        ),
        (
            tls,
            authority(&others),
            tls_port,
            Err("its certificate is not to be trusted"),
        ),
        (
            format!("redis://:hushhush@localhost:{port}"),
            String::new(),
            port,
            Err("the password is refused"),
        ),
        (
            format!("redis://localhost:{port}"),
            String::new(),
            port,
            Err("it wants a password"),
        ),
    ] {
        let expected = expected.map_err(|why| format!("redis localhost:{on}: {why}"));
        assert_eq!(check("redis", &url, &more).await, expected, "{url} {more}");
    }
    drop(server);
    assert_eq!(
        check("redis", &url, "").await,
        Err(format!("redis localhost:{port}: connection refused"))
    );
}

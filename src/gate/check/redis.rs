//! `redis`: a new connection, authenticated as its URL says, answers `PING`.

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    aio::MultiplexedConnection,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    connection::{Target, Trust, drive},
    failure::{self, Failure},
    secret::Secret,
};
use crate::contract::{DatabaseCheck, TlsMode};

/// What a connection URL says.
#[derive(Debug)]
struct Url {
    target: Target,
    settings: RedisConnectionInfo,
    tls: bool,
}

// === impl Url ===

impl Url {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return None,
        };
        // TLS is ours, so that all checks trust by the same rules.
        let info: ConnectionInfo = format!("redis://{rest}").into_connection_info().ok()?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return None;
        };
        Some(Self {
            target: Target::Host(host.clone(), *port),
            settings: info.redis_settings().clone(),
            tls,
        })
    }

    fn subject(&self) -> String {
        format!("redis {}", self.target)
    }
}

pub(super) async fn run(check: &DatabaseCheck) -> Result<(), Failure> {
    let secret = Secret::read(&check.url_from).await?;
    let url = Url::parse(secret.expose())
        .ok_or_else(|| Failure::new("redis", "its URL cannot be read: redis://host:6379/0"))?;
    let subject = url.subject();
    let stream = url.target.connect(&subject).await?;
    let trust = match (check.tls, url.tls) {
        (Some(TlsMode::Disable), _) | (None, false) => {
            return ping(&url.settings, stream, &subject).await;
        }
        (Some(TlsMode::Prefer | TlsMode::Require), _) => Trust::Anybody,
        (Some(TlsMode::VerifyFull), _) | (None, true) => match &check.ca_file {
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        },
    };
    let stream = trust
        .handshake(stream, &url.target.host(), &subject)
        .await?;
    ping(&url.settings, stream, &subject).await
}

/// `redis shop-cache:6379`, or `redis` where the URL cannot be read.
pub(super) async fn subject(check: &DatabaseCheck) -> String {
    let secret = Secret::read(&check.url_from).await.ok();
    secret
        .and_then(|secret| Url::parse(secret.expose()))
        .map_or_else(|| "redis".to_owned(), |url| url.subject())
}

async fn ping<S>(settings: &RedisConnectionInfo, stream: S, subject: &str) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let refused = |error: RedisError| Failure::new(subject, describe(&error));
    let (mut connection, driver) = MultiplexedConnection::new(settings, stream)
        .await
        .map_err(refused)?;
    let command = redis::cmd("PING");
    let answer = command.query_async::<()>(&mut connection);
    drive(answer, driver).await.map_err(refused)
}

/// Words for what the server said. Its own are not quoted: they may name users.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some("WRONGPASS") => return "the password is refused".to_owned(),
        Some("NOAUTH") => return "it wants a password".to_owned(),
        Some("NOPERM") => return "the user may not PING".to_owned(),
        Some("LOADING") => return "it is still loading its data".to_owned(),
        Some(code) => return format!("refused with {code}"),
        None => {}
    }
    if let Some(io) = std::error::Error::source(error).and_then(|cause| cause.downcast_ref()) {
        return failure::describe(io);
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest are named as they are"
    )]
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => "the password is refused".to_owned(),
        redis::ErrorKind::Parse => "what it answers is not Redis's protocol".to_owned(),
        _ if error.is_connection_dropped() => "connection closed without an answer".to_owned(),
        kind => format!("failed ({kind:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_redis_and_valkey_urls() {
        for (text, tls) in [
            ("redis://:s3cret@shop-cache:6380/2", false),
            ("rediss://app:s3cret@shop-cache:6380", true),
            ("valkeys://shop-cache:6380", true),
        ] {
            let url = Url::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(url.tls, tls, "{text}");
            assert_eq!(url.subject(), "redis shop-cache:6380", "{text}");
        }
        for text in ["http://cache", "cache:6379", "redis://"] {
            assert!(Url::parse(text).is_none(), "{text}");
        }
    }
}

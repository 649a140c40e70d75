//! `postgres`: a new connection answers `SELECT 1`.

use std::{borrow::Cow, io, pin::Pin, task};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Config, Error, NoTls,
    config::{Host, SslMode},
    error::SqlState,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};
use tokio_rustls::{TlsConnector, client};

use super::{
    connection::{Target, Trust, describe_tls},
    failure::Failure,
    secret::Secret,
};
use crate::{
    contract::{DatabaseCheck, TlsMode},
    telemetry::causes,
};

/// What a connection URL says.
#[derive(Debug)]
struct Url {
    config: Config,
    tls: Option<TlsMode>,
}

/// rustls under `tokio_postgres`: the server is asked for TLS first, then the handshake begins.
struct Tls {
    connector: TlsConnector,
    host: String,
}

struct Encrypted<S>(client::TlsStream<S>);

/// The parameters of a URL that a check needs. Others are for the app's driver
/// (`schema`, `pool_timeout`, `sslrootcert`) and would be refused.
const PARAMETERS: [&str; 6] = ["user", "password", "dbname", "host", "hostaddr", "port"];

// === impl Url ===

impl Url {
    /// Reads the forms that drivers accept, `postgresql+asyncpg://` and `jdbc:postgresql://` among
    /// them, and the `key=value` form of libpq.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("jdbc:").unwrap_or(text);
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::parse_pairs(text);
        };
        if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) {
            return None;
        }
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (mut kept, mut tls) = (String::new(), None);
        for (name, value) in pairs {
            if name == "sslmode" {
                tls = Some(tls_mode(value)?);
            } else if PARAMETERS.contains(&name) {
                let join = if kept.is_empty() { '?' } else { '&' };
                kept.extend([
                    Cow::from(join.to_string()),
                    name.into(),
                    "=".into(),
                    value.into(),
                ]);
            }
        }
        let config = format!("postgresql://{address}{kept}").parse().ok()?;
        Some(Self { config, tls })
    }

    /// Of the options only `sslmode` has values that `tokio_postgres` does not know.
    fn parse_pairs(text: &str) -> Option<Self> {
        let (mut kept, mut tls) = (Vec::new(), None);
        for pair in text.split_whitespace() {
            match pair.split_once('=') {
                Some(("sslmode", value)) => tls = Some(tls_mode(value)?),
                Some(("sslrootcert", _)) => {}
                _ => kept.push(pair),
            }
        }
        let config = kept.join(" ").parse().ok()?;
        Some(Self { config, tls })
    }
}

/// The URL's words for TLS. `allow` prefers what is plain, which no check should depend on.
fn tls_mode(word: &str) -> Option<TlsMode> {
    match word {
        "disable" => Some(TlsMode::Disable),
        "allow" | "prefer" => Some(TlsMode::Prefer),
        "require" => Some(TlsMode::Require),
        "verify-ca" | "verify-full" => Some(TlsMode::VerifyFull),
        _ => None,
    }
}

/// Passes if any of the URL's hosts does, tried in order, as libpq does.
pub(super) async fn run(check: &DatabaseCheck) -> Result<(), Failure> {
    let secret = Secret::read(&check.url_from).await?;
    let mut url = Url::parse(secret.expose()).ok_or_else(|| {
        Failure::new(
            "postgres",
            "its URL cannot be read: postgres://user@host:5432/database",
        )
    })?;
    let mode = check.tls.or(url.tls).unwrap_or(TlsMode::Prefer);
    url.config.ssl_mode(match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyFull => SslMode::Require,
    });
    let trust = match (mode, &check.ca_file) {
        (TlsMode::VerifyFull, Some(path)) => Trust::File(path.clone()),
        (TlsMode::VerifyFull, None) => Trust::System,
        (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require, _) => Trust::Anybody,
    };
    let mut failure = Failure::new("postgres", "its URL names no host");
    for (index, host) in url.config.get_hosts().iter().enumerate() {
        let ports = url.config.get_ports();
        let port = ports
            .get(index)
            .or_else(|| ports.first())
            .copied()
            .unwrap_or(5432);
        match ask(&url.config, (host, port), &trust).await {
            Ok(()) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// `postgres shop-db:5432`, or `postgres` where the URL cannot be read.
pub(super) async fn subject(check: &DatabaseCheck) -> String {
    let Ok(secret) = Secret::read(&check.url_from).await else {
        return "postgres".to_owned();
    };
    let Some(url) = Url::parse(secret.expose()) else {
        return "postgres".to_owned();
    };
    let port = url.config.get_ports().first().copied().unwrap_or(5432);
    match url.config.get_hosts().first() {
        Some(host) => name(host, port),
        None => "postgres".to_owned(),
    }
}

fn name(host: &Host, port: u16) -> String {
    match host {
        Host::Tcp(host) => format!("postgres {host}:{port}"),
        Host::Unix(folder) => format!("postgres {}", folder.display()),
    }
}

async fn ask(config: &Config, (host, port): (&Host, u16), trust: &Trust) -> Result<(), Failure> {
    let subject = name(host, port);
    match host {
        Host::Unix(folder) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            let stream = tokio::net::UnixStream::connect(path)
                .await
                .map_err(|error| Failure::io(&subject, &error))?;
            // libpq never encrypts what does not leave the machine.
            let mut config = config.clone();
            config.ssl_mode(SslMode::Disable);
            select(&config, stream, NoTls, &subject).await
        }
        Host::Tcp(host) => {
            let stream = Target::Host(host.clone(), port).connect(&subject).await?;
            let connector = trust
                .connector()
                .map_err(|why| Failure::new(&subject, why))?;
            let host = host.clone();
            select(config, stream, Tls { connector, host }, &subject).await
        }
    }
}

async fn select<S, T>(config: &Config, stream: S, tls: T, subject: &str) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: TlsConnect<S>,
{
    let refused = |error: Error| Failure::new(subject, describe(&error));
    let (client, connection) = config.connect_raw(stream, tls).await.map_err(refused)?;
    let answer = async {
        let answer = client.simple_query("SELECT 1").await;
        drop(client); // ends the connection politely
        answer
    };
    let (answer, ended) = tokio::join!(answer, connection);
    answer.map_err(refused)?;
    ended.map_err(refused)
}

/// Words for what the server said. Its own are not quoted: they name users and databases.
fn describe(error: &Error) -> String {
    if let Some(state) = error.code() {
        let known = match state {
            state if *state == SqlState::INVALID_PASSWORD => "the password is refused",
            state if *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                "the user is not let in"
            }
            state if *state == SqlState::INVALID_CATALOG_NAME => "the database does not exist",
            state if *state == SqlState::CANNOT_CONNECT_NOW => "it is starting up or shutting down",
            state if *state == SqlState::TOO_MANY_CONNECTIONS => "it has too many connections",
            state => return format!("refused with SQLSTATE {}", state.code()),
        };
        return known.to_owned();
    }
    if let Some(io) = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()) {
        return describe_tls(io).replace("TLS handshake failed: connection", "connection");
    }
    if error.is_closed() {
        "connection closed without an answer".to_owned()
    } else {
        // These texts are the library's own: "error performing TLS handshake: server does not
        // support TLS", "invalid configuration: password missing".
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            let source = source.to_string();
            if !text.contains(&source) {
                text = format!("{text}: {source}");
            }
        }
        text
    }
}

// === impl Tls ===

impl<S> TlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = rustls::pki_types::ServerName::try_from(self.host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            self.connector.connect(name, stream).await.map(Encrypted)
        })
    }
}

// === impl Encrypted ===

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    /// None: the server then offers SCRAM without binding, which suffices for a check.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_urls_of_many_drivers() {
        for (text, tls) in [
            ("postgres://app:s3cret@shop-db:6543/shop", None),
            (
                "postgresql+asyncpg://app:s3cret@shop-db:6543/shop?sslmode=verify-full&schema=x",
                Some(TlsMode::VerifyFull),
            ),
            (
                "jdbc:postgresql://shop-db:6543/shop?user=app&password=s3cret&sslmode=require",
                Some(TlsMode::Require),
            ),
            (
                "host=shop-db port=6543 user=app password=s3cret sslmode=disable sslrootcert=/x",
                Some(TlsMode::Disable),
            ),
        ] {
            let url = Url::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(url.tls, tls, "{text}");
            assert_eq!(
                url.config.get_hosts(),
                [Host::Tcp("shop-db".into())],
                "{text}"
            );
            assert_eq!(url.config.get_ports(), [6543], "{text}");
            assert_eq!(url.config.get_user(), Some("app"), "{text}");
            assert_eq!(
                url.config.get_password(),
                Some(b"s3cret".as_slice()),
                "{text}"
            );
        }
        for text in ["mysql://db", "postgres://db?sslmode=maybe", "nonsense"] {
            assert!(Url::parse(text).is_none(), "{text}");
        }
    }
}

//! Where the gate listens, and where the app does.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A socket address to listen on. A bare port (`8080` or `":8080"`) means all addresses of both
/// families, `[::]:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

/// Where the app's port is found.
///
/// In a document: a port (`8081`: this machine's loopback, both families), `"host:port"`, or
/// `{"hostFrom": {"env": "POD_IPS"}, "port": 8081}` where the variable holds one address or several
/// separated by commas, as `status.podIPs` by `fieldRef` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppAddress {
    /// Its host.
    pub host: AppHost,
    /// Its port.
    pub port: u16,
}

/// The host part of an [`AppAddress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppHost {
    /// `127.0.0.1` and `::1`, whichever accepts.
    Loopback,
    /// A name or an address.
    Named(String),
    /// Addresses in an environment variable, known only when the gate starts.
    Env(String),
}

/// Why a text is no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not {expected}")]
pub struct AddressError {
    text: String,
    expected: &'static str,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HostFromEnv {
    host_from: EnvName,
    port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvName {
    env: String,
}

const LISTEN_FORM: &str = "an address and port such as \"[::]:8080\", or a port such as 8080";
const APP_FORM: &str = "a host and port such as \"10.0.0.7:8081\", or a port such as 8081";

// === impl Listen ===

impl Listen {
    /// All addresses of both families.
    pub fn any(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
    }
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = text.strip_prefix(':').unwrap_or(text);
        if let Ok(port) = port.parse() {
            return Ok(Self::any(port));
        }
        text.parse().map(Self).map_err(|_| AddressError {
            text: text.to_owned(),
            expected: LISTEN_FORM,
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(LISTEN_FORM)
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<Listen, E> {
                port_number(port).map(Listen::any)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map_err(E::custom)
            }
        }

        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An address and port to listen on; a bare port means all addresses of both families.",
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 65535},
                {"type": "string", "examples": ["[::]:8080"]},
            ],
        })
    }
}

// === impl AppAddress ===

impl FromStr for AppAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AddressError {
            text: text.to_owned(),
            expected: APP_FORM,
        };
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::loopback(port));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        // A colon left in the host is IPv6, which needs its brackets to be told from the port.
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| wrong())?.to_string(),
            None if host.contains(':') || host.contains(char::is_whitespace) => return Err(wrong()),
            None if host.is_empty() => return Ok(Self::loopback(port)),
            None => host.to_owned(),
        };
        Ok(Self {
            host: AppHost::Named(host),
            port,
        })
    }
}

impl AppAddress {
    /// `127.0.0.1` and `::1`.
    pub fn loopback(port: u16) -> Self {
        Self {
            host: AppHost::Loopback,
            port,
        }
    }
}

impl fmt::Display for AppAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            AppHost::Loopback => write!(f, "localhost:{port}"),
            AppHost::Named(host) if host.contains(':') => write!(f, "[{host}]:{port}"),
            AppHost::Named(host) => write!(f, "{host}:{port}"),
            AppHost::Env(name) => write!(f, "${name}:{port}"),
        }
    }
}

impl Serialize for AppAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.host {
            AppHost::Loopback => to.serialize_u16(self.port),
            AppHost::Named(_) => to.collect_str(self),
            AppHost::Env(name) => HostFromEnv {
                host_from: EnvName { env: name.clone() },
                port: self.port,
            }
            .serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for AppAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AppAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(APP_FORM)
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<AppAddress, E> {
                port_number(port).map(AppAddress::loopback)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AppAddress, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<AppAddress, A::Error> {
                let from = HostFromEnv::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(AppAddress {
                    host: AppHost::Env(from.host_from.env),
                    port: from.port,
                })
            }
        }

        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for AppAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AppAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where the app listens: a port of this machine's loopback, a host and port, or a port of the addresses in an environment variable.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "examples": ["10.0.0.7:8081"]},
                {
                    "type": "object",
                    "properties": {
                        "hostFrom": {
                            "type": "object",
                            "properties": {"env": {"type": "string"}},
                            "required": ["env"],
                            "additionalProperties": false,
                        },
                        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                    },
                    "required": ["hostFrom", "port"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

fn port_number<E: de::Error>(port: u64) -> Result<u16, E> {
    u16::try_from(port).map_err(|_| E::custom(format_args!("{port} is above 65535, the last port")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_form_of_an_address() {
        let cases = [
            ("8081", AppHost::Loopback),
            (r#"":8081""#, AppHost::Loopback),
            (r#""10.0.0.7:8081""#, AppHost::Named("10.0.0.7".into())),
            (r#""[fd00::7]:8081""#, AppHost::Named("fd00::7".into())),
            (r#""shop:8081""#, AppHost::Named("shop".into())),
            (
                r#"{"hostFrom":{"env":"POD_IPS"},"port":8081}"#,
                AppHost::Env("POD_IPS".into()),
            ),
        ];
        for (json, host) in cases {
            let address: AppAddress = serde_json::from_str(json).unwrap();
            assert_eq!(address, AppAddress { host, port: 8081 }, "{json}");
            let encoded = serde_json::to_string(&address).unwrap();
            assert_eq!(
                serde_json::from_str::<AppAddress>(&encoded).unwrap(),
                address
            );
        }
    }

    #[test]
    fn rejects_what_is_no_address() {
        for json in [
            r#""fd00::7:8081""#,
            r#""shop""#,
            r#""shop:http""#,
            "70000",
            "true",
            "-1",
        ] {
            assert!(serde_json::from_str::<AppAddress>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Listen>(r#""localhost:80""#).is_err());
    }

    #[test]
    fn a_bare_port_listens_on_both_families() {
        for json in ["8080", r#"":8080""#, r#""8080""#] {
            let listen: Listen = serde_json::from_str(json).unwrap();
            assert_eq!(listen.to_string(), "[::]:8080", "{json}");
        }
    }
}

//! Which ports the gate stands before, and how each of them becomes its own.
//!
//! ```text
//!              Service ---targetPort: http---> gate :15982 ---> app :8080    named-port: the name goes over
//!              Service ---targetPort: 8080---> gate :8080  ---> app :15982   env: the number goes over, PORT=15982
//!              Service ---targetPort: 8080---------------------> app :8080   none: the gate only says when
//! ```

use super::{
    config::{Choice, Config, Mistake, PortChoice, PortRef},
    ports::{Declared, Numbers, declared, is_port},
    services::Target,
};
use crate::{
    contract::Protocol,
    policy::template::{Handler, Probe, Site, Template},
};

/// How a gate takes over the app's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Takeover {
    /// It takes a port's name, which Services follow.
    NamedPort,
    /// It takes a port's number, and the app is told another one by an environment variable.
    Env,
    /// It takes none: it decides when the pod is ready, and traffic goes past it.
    None,
    /// Some ports in one way and some in another.
    Mixed,
}

/// A port that the gate stands before.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Gated<'a> {
    pub(in crate::policy) declared: Declared<'a>,
    /// What the gate's settings and the annotation call it.
    pub(super) label: String,
    pub(super) protocol: Protocol,
    /// Never [`Takeover::Mixed`].
    pub(in crate::policy) takeover: Takeover,
    /// Where the app will listen.
    pub(super) app: u16,
    /// Where the gate listens, if it does.
    pub(in crate::policy) listen: Option<u16>,
}

/// Words in the names of ports that clients of the app have no business with.
const ASIDE: [&str; 12] = [
    "admin",
    "debug",
    "health",
    "healthz",
    "jmx",
    "management",
    "metrics",
    "mgmt",
    "pprof",
    "probe",
    "prom",
    "prometheus",
];

/// First words in the names of ports where HTTP is spoken, as meshes read them.
const HTTP: [&str; 7] = ["grpc", "h2c", "http", "http1", "http2", "web", "ws"];

/// The variable that most platforms tell an app its port by.
const PORT: &str = "PORT";

/// The ports to stand before, and how. `Ok` with none where there is nothing to stand before.
pub(super) fn gated<'a>(
    template: &'a Template<'a>,
    config: &Config,
    targets: &[Target],
) -> Result<Vec<Gated<'a>>, Vec<Mistake>> {
    let declared = declared(template);
    let chosen = match &config.own.ports {
        Some(choices) => chosen(config, choices, &declared)?,
        None => by_default(&declared, targets),
    };
    let mut mistakes = Vec::new();
    let asked = chosen
        .iter()
        .filter_map(|(_, choice)| choice.as_ref()?.listen);
    let mut numbers = Numbers::beside(template, asked);
    let mut gated: Vec<Gated<'a>> = Vec::new();
    for (index, (port, choice)) in chosen.into_iter().enumerate() {
        let takeover = match decide(config, port, targets) {
            Ok(takeover) => takeover,
            Err(text) => {
                mistakes.push(config.mistake("takeover", &text));
                continue;
            }
        };
        if takeover == Takeover::Env
            && let Some(other) = gated.iter().find(|other| other.is_told_by_env(port.site))
        {
            let text = format!(
                "env: {} can tell {} one port only, and here are {} and {}; say in ports which one",
                config.port_env(),
                port.site,
                other.declared.number,
                port.number
            );
            mistakes.push(config.mistake("takeover", &text));
        }
        let asked = choice.and_then(|choice| choice.listen);
        if asked.is_some() && takeover != Takeover::NamedPort {
            let text = format!(
                "is not free to choose where takeover is {}",
                takeover.as_str()
            );
            mistakes.push(config.mistake(&format!("ports[{index}].listen"), &text));
        }
        let (app, listen) = match takeover {
            Takeover::NamedPort => (port.number, Some(asked.unwrap_or_else(|| numbers.next()))),
            Takeover::Env => (numbers.next(), Some(port.number)),
            Takeover::None | Takeover::Mixed => (port.number, None),
        };
        gated.push(Gated {
            declared: port,
            label: label(port, &gated),
            protocol: choice
                .and_then(|choice| choice.protocol)
                .unwrap_or_else(|| protocol(port, targets)),
            takeover,
            app,
            listen,
        });
    }
    if mistakes.is_empty() {
        Ok(gated)
    } else {
        Err(mistakes)
    }
}

/// The ports that the settings name.
fn chosen<'a, 'c>(
    config: &Config,
    choices: &'c [PortChoice],
    declared: &[Declared<'a>],
) -> Result<Vec<(Declared<'a>, Option<&'c PortChoice>)>, Vec<Mistake>> {
    let mut chosen: Vec<(Declared<'a>, Option<&PortChoice>)> = Vec::new();
    let mut mistakes = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        let field = format!("ports[{index}]");
        let found = declared.iter().find(|port| match &choice.port {
            PortRef::Name(name) => port.name == Some(name),
            PortRef::Number(number) => port.number == *number,
        });
        let same = |port: &Declared<'_>| {
            let mut chosen = chosen.iter();
            chosen.any(|(other, _)| other.number == port.number)
        };
        match found {
            None => {
                let named = match &choice.port {
                    PortRef::Name(name) => format!("named \"{name}\""),
                    PortRef::Number(number) => number.to_string(),
                };
                let text = format!("no container declares a TCP port {named} among its ports");
                mistakes.push(config.mistake(&field, &text));
            }
            Some(port) if same(port) => mistakes.push(config.mistake(&field, "stands twice")),
            Some(port) => chosen.push((*port, Some(choice))),
        }
    }
    if choices.is_empty() {
        mistakes.push(config.mistake("ports", "must name at least one; leave it out for all"));
    }
    if mistakes.is_empty() {
        Ok(chosen)
    } else {
        Err(mistakes)
    }
}

/// Where nothing is said: what the app's containers declare, but for metrics and the like, and for what clients must
/// reach before it is ready.
fn by_default<'a, 'c>(
    declared: &[Declared<'a>],
    targets: &[Target],
) -> Vec<(Declared<'a>, Option<&'c PortChoice>)> {
    let mut chosen: Vec<(Declared<'a>, Option<&PortChoice>)> = Vec::new();
    for port in declared {
        let aside = |name: &str| name.split('-').any(|word| ASIDE.contains(&word));
        let published = |target: &&Target| target.publish_not_ready && target.is_at(port);
        let twice = chosen.iter().any(|(other, _)| other.number == port.number);
        let app = port.site.list == "containers" && !port.name.is_some_and(aside);
        if app && !twice && !targets.iter().any(|target| published(&target)) {
            chosen.push((*port, None));
        }
    }
    chosen
}

fn decide(config: &Config, port: Declared<'_>, targets: &[Target]) -> Result<Takeover, String> {
    let variable = config.port_env();
    let by_name = targets.iter().any(|target| target.is_by_name(&port));
    let by_number = targets.iter().any(|target| target.is_by_number(&port));
    match config.own.takeover {
        Choice::NamedPort if port.name.is_none() => Err(format!(
            "named-port: port {} of {} has no name that could go over to the gate",
            port.number, port.site
        )),
        Choice::NamedPort => Ok(Takeover::NamedPort),
        Choice::Env => match env_port(port, variable) {
            EnvPort::Absent | EnvPort::This => Ok(Takeover::Env),
            EnvPort::Other(value) => Err(format!(
                "env: {} has {variable}={value}, which is not its port {}; say in portEnv which variable tells it, or in \
                 ports which port",
                port.site, port.number
            )),
            EnvPort::Elsewhere => Err(format!(
                "env: {} reads {variable} from somewhere else, so it cannot be changed here; write its value",
                port.site
            )),
        },
        Choice::None => Ok(Takeover::None),
        Choice::Auto => {
            let moves = matches!(env_port(port, variable), EnvPort::This);
            Ok(match (port.name, moves) {
                (_, true) if by_number => Takeover::Env,
                (Some(_), _) if by_name || !by_number => Takeover::NamedPort,
                (_, true) => Takeover::Env,
                _ => Takeover::None,
            })
        }
    }
}

/// What the variable that tells an app its port says.
enum EnvPort<'a> {
    Absent,
    This,
    Other(&'a str),
    Elsewhere,
}

fn env_port<'a>(port: Declared<'a>, variable: &str) -> EnvPort<'a> {
    let mut env = port.site.container.env.items().rev();
    let Some(entry) = env.find(|entry| entry.name.as_deref() == Some(variable)) else {
        return EnvPort::Absent;
    };
    match &entry.value {
        Some(value) if value.as_written() == port.number.to_string() => EnvPort::This,
        Some(value) => EnvPort::Other(value.as_written()),
        None => EnvPort::Elsewhere,
    }
}

/// Its name where it has one: unique, and safe as a metric label.
fn label(port: Declared<'_>, others: &[Gated<'_>]) -> String {
    let name = port
        .name
        .map_or_else(|| format!("port-{}", port.number), str::to_owned);
    if others.iter().any(|other| other.label == name) {
        return format!("{name}-{}", port.number);
    }
    name
}

fn protocol(port: Declared<'_>, targets: &[Target]) -> Protocol {
    let container = port.site.container;
    if let Some(handler) = (container.readiness_probe.as_ref()).and_then(Probe::handler) {
        match handler {
            Handler::HttpGet(get) if is_port(get.port.as_ref(), port) => {
                let tls = get.scheme.as_deref() == Some("HTTPS");
                return if tls { Protocol::Tcp } else { Protocol::Http };
            }
            Handler::Grpc(grpc) if grpc.port == Some(i32::from(port.number)) => {
                return Protocol::Http;
            }
            Handler::HttpGet(_) | Handler::Grpc(_) | Handler::TcpSocket(_) | Handler::Exec(_) => {}
        }
    }
    let http = |name: &str| {
        name.split('-')
            .next()
            .is_some_and(|word| HTTP.contains(&word))
    };
    let of_services = || {
        let mut targets = targets.iter().filter(|target| target.is_at(&port));
        targets.any(|target| http(&target.port_name))
    };
    if port.name.is_some_and(http) || of_services() {
        Protocol::Http
    } else {
        Protocol::Tcp
    }
}

// === impl Gated ===

impl Gated<'_> {
    /// The variable of this container tells it this port.
    fn is_told_by_env(&self, site: Site<'_, '_>) -> bool {
        let own = self.declared.site;
        self.takeover == Takeover::Env && (own.list, own.index) == (site.list, site.index)
    }
}

// === impl Config ===

impl Config {
    /// The variable that tells the app its port.
    pub(super) fn port_env(&self) -> &str {
        self.own.port_env.as_deref().unwrap_or(PORT)
    }
}

// === impl Takeover ===

impl Takeover {
    /// As annotation and metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NamedPort => "named-port",
            Self::Env => "env",
            Self::None => "none",
            Self::Mixed => "mixed",
        }
    }

    /// From the annotation: `http=named-port,grpc=none`.
    pub(super) fn read(annotation: &str) -> Self {
        let way = |port: &str| {
            let (_, way) = port.split_once('=')?;
            [Self::NamedPort, Self::Env]
                .into_iter()
                .find(|known| known.as_str() == way)
        };
        Self::together(
            annotation
                .split(',')
                .map(|port| way(port).unwrap_or(Self::None)),
        )
    }

    /// That of all these ports.
    pub(super) fn of(ports: &[Gated<'_>]) -> Self {
        Self::together(ports.iter().map(|port| port.takeover))
    }

    fn together(mut ways: impl Iterator<Item = Self>) -> Self {
        let first = ways.next().unwrap_or(Self::None);
        if ways.all(|way| way == first) {
            first
        } else {
            Self::Mixed
        }
    }
}

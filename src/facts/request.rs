//! One question to the API server: the request, and what its answer means.

use std::collections::{BTreeMap, BTreeSet};

use http::{Request, StatusCode, header::ACCEPT};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::{Client, client::Body};
use serde::Deserialize;

use super::{
    access, decode,
    keys::Keys,
    network,
    page::{AS_TABLE, FEW, ListMetadata, MAX_PAGES, NodePage, PAGE, Page},
    producers::{self, Wanted},
};
use crate::policy::{
    facts::{Answer, Producer, Query, Revision, Unknown, Versions},
    precedent,
    template::Text,
};

/// No object that an API server serves is larger: etcd takes requests of 1.5 MiB (`--max-request-bytes`), JSON of the
/// same object can be larger, and the API server itself takes no body above 3 MiB
/// (`MaxRequestBodyBytes`). A page of a list stays below.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;

/// What objects and lists are asked for as.
pub(super) const JSON: &str = "application/json";

/// Of a refusal only the message is read, and it is short.
const MAX_REFUSAL: usize = 64 * 1024;

/// As much of a refusal's message as fits into a warning of 256 characters with what the judge says round it.
const MAX_WORDS: usize = 120;

/// `Status`, as far as it says why.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Status<'a> {
    kind: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    message: Option<Text<'a>>,
    metadata: ListMetadata<'a>,
}

/// What the API server says in place of what was asked for.
pub(super) struct Refusal {
    /// None where there was no answer at all.
    pub(super) status: Option<StatusCode>,
    /// It says clearly that the object is not there.
    is_missing: bool,
    /// Its status and message, or what went wrong on the way; short.
    pub(super) words: Box<str>,
    /// What goes on with a list whose token has expired.
    pub(super) token: Option<Box<str>>,
}

/// The answer of `/version`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerVersion {
    git_version: String,
}

/// An answer that can't be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is larger than any object can be")]
    TooLarge,
    #[error("the answer is not the object that was asked for")]
    Content,
}

/// Asks once, or page by page. Everything but what was asked for and a clear "not found" is [`Answer::Unknown`].
pub(super) async fn answer(client: &Client, query: &Query<'_>) -> Answer {
    let Some(path) = access::path(query) else {
        return Answer::Missing;
    };
    found(client, query, &path)
        .await
        .unwrap_or_else(|answer| answer)
}

/// What there is; `Err` with the answer where there is nothing, or nothing to be had.
async fn found(client: &Client, query: &Query<'_>, path: &str) -> Result<Answer, Answer> {
    match query {
        Query::Secret { .. } | Query::ConfigMap { .. } => {
            let body = get(client, path, JSON).await?;
            Ok(keys(body).await.map(Answer::Keys)?)
        }
        Query::Namespace { .. } => {
            let object = object(client, path).await?;
            Ok(Answer::Namespace(read(decode::namespace(&object))?))
        }
        Query::ServiceAccount { .. } => {
            let object = object(client, path).await?;
            let pulled = read(decode::service_account(&object))?;
            Ok(Answer::ServiceAccount(pulled))
        }
        Query::Twin {
            namespace, kind, ..
        } => {
            let object = object(client, path).await?;
            let twin = decode::twin(kind, namespace, read(serde_json::from_str(&object))?);
            Ok(twin.map(Answer::Twin).ok_or(Unreadable::Content)?)
        }
        Query::LimitRanges { .. } => {
            let ranges = list(client, path, decode::limit_range).await?;
            Ok(Answer::LimitRanges(ranges))
        }
        Query::Services { .. } => {
            let services = list(client, path, network::service).await?;
            Ok(Answer::Services(services))
        }
        Query::NetworkPolicies { .. } => {
            let policies = list(client, path, network::policy).await?;
            Ok(Answer::NetworkPolicies(policies))
        }
        Query::Versions => versions(client, path).await.map(Answer::Versions),
        Query::Groups => {
            let groups = object(client, path).await?;
            Ok(Answer::Groups(read(producers::served(&groups))?))
        }
        Query::Declared {
            namespace,
            producer,
            secret,
            ..
        } => {
            let place = (&**namespace, &**secret);
            declared(client, path, *producer, place).await
        }
        Query::Template {
            revision, template, ..
        } => precedent(client, path, revision, template).await,
    }
}

/// One request. `Err` unless the API server answers with what was asked for.
async fn get(client: &Client, path: &str, accept: &'static str) -> Result<Body, Answer> {
    Ok(send(client, path, accept).await?)
}

/// The same, with all that a refusal tells.
pub(super) async fn send(
    client: &Client,
    path: &str,
    accept: &'static str,
) -> Result<Body, Refusal> {
    let request = Request::get(path)
        .header(ACCEPT, accept)
        .body(Body::empty())
        .expect("a path of letters, digits, dots and dashes");
    let response = client.send(request).await;
    let response = response.map_err(|error| Refusal::unanswered(&innermost(&error)))?;
    let status = response.status();
    let body = response.into_body();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let refusal = whole(body, MAX_REFUSAL).await.unwrap_or_default();
    Err(Refusal::read(status, &refusal))
}

async fn object(client: &Client, path: &str) -> Result<String, Answer> {
    let body = get(client, path, JSON).await?;
    Ok(whole(body, MAX_BODY).await?)
}

/// What `read` makes of every object of a list.
async fn list<T, I: IntoIterator<Item = T>>(
    client: &Client,
    path: &str,
    read_one: impl Fn(&str) -> serde_json::Result<I>,
) -> Result<Vec<T>, Answer> {
    let mut items = Vec::new();
    let mut next = first_page(path, PAGE);
    for _ in 0..MAX_PAGES {
        let json = object(client, &next).await?;
        let page = read(Page::read(&json))?;
        for item in page.items() {
            items.extend(read(read_one(item.get()))?);
        }
        match page.next() {
            Some(token) => next = next_page(path, PAGE, token)?,
            None => return Ok(items),
        }
    }
    Err(too_many(PAGE))
}

/// Looks for a revision with this template. None is kept: who may make them could make them large and many.
async fn precedent(
    client: &Client,
    path: &str,
    revision: &Revision<'_>,
    template: &str,
) -> Result<Answer, Answer> {
    let is_it = |object: &str| {
        let object = serde_json::from_str(object)?;
        Ok(precedent::is_it(object, revision, template))
    };
    let exists = match revision {
        Revision::ReplicaSet { selector, .. } | Revision::ControllerRevision { selector, .. } => {
            any(client, &selected(path, selector), FEW, is_it).await?
        }
        Revision::CronJob { .. } => read(is_it(&object(client, path).await?))?,
    };
    exists.then_some(Answer::Exists).ok_or(Answer::Missing)
}

/// Looks for an object that declares a Secret, by its namespace and name.
async fn declared(
    client: &Client,
    path: &str,
    producer: Producer,
    (namespace, secret): (&str, &str),
) -> Result<Answer, Answer> {
    let mut labels = BTreeMap::new();
    if producer == Producer::ClusterExternalSecret {
        let query = Query::Namespace {
            name: namespace.into(),
        };
        let path = access::path(&query).ok_or(Answer::Missing)?;
        labels = read(decode::labels(&object(client, &path).await?))?;
    }
    let wanted = Wanted {
        namespace,
        labels: &labels,
        secret,
    };
    let is_it = |object: &str| producers::declares(producer, object, &wanted);
    let exists = any(client, path, PAGE, is_it).await?;
    exists.then_some(Answer::Exists).ok_or(Answer::Missing)
}

/// Whether `is_it` says so of any object of a list.
async fn any(
    client: &Client,
    path: &str,
    limit: u32,
    is_it: impl Fn(&str) -> serde_json::Result<bool>,
) -> Result<bool, Answer> {
    let mut next = first_page(path, limit);
    for _ in 0..MAX_PAGES {
        let json = object(client, &next).await?;
        let page = read(Page::read(&json))?;
        for item in page.items() {
            if read(is_it(item.get()))? {
                return Ok(true);
            }
        }
        match page.next() {
            Some(token) => next = next_page(path, limit, token)?,
            None => return Ok(false),
        }
    }
    Err(too_many(limit))
}

/// A list of those that match a selector of plain labels; an empty one matches all.
fn selected(path: &str, selector: &str) -> String {
    if selector.is_empty() {
        return path.to_owned();
    }
    let mut selected = format!("{path}?labelSelector=");
    for char in selector.chars() {
        match char {
            '=' => selected.push_str("%3D"),
            ',' => selected.push_str("%2C"),
            '/' => selected.push_str("%2F"),
            plain => selected.push(plain),
        }
    }
    selected
}

/// The releases of the API server and of all nodes.
async fn versions(client: &Client, path: &str) -> Result<Versions, Answer> {
    let version = object(client, "/version").await?;
    let ServerVersion { git_version } = read(serde_json::from_str(&version))?;
    let server = git_version.parse().map_err(|_| Unreadable::Content)?;
    let mut versions = Versions {
        server,
        oldest_node: None,
        architectures: BTreeSet::new(),
    };
    let mut next = first_page(path, PAGE);
    for _ in 0..MAX_PAGES {
        let table = whole(get(client, &next, AS_TABLE).await?, MAX_BODY).await?;
        let page = read(NodePage::read(&table))?;
        for node in page.nodes().ok_or(Unreadable::Content)? {
            let oldest = versions.oldest_node.unwrap_or(node.kubelet);
            versions.oldest_node = Some(oldest.min(node.kubelet));
            versions.architectures.extend(node.architecture);
        }
        match page.next() {
            Some(token) => next = next_page(path, PAGE, token)?,
            None => return Ok(versions),
        }
    }
    Err(too_many(PAGE))
}

pub(super) fn first_page(path: &str, limit: u32) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}limit={limit}")
}

/// The path of the page that `token` stands for: base64 as URLs have it
/// (apiserver `pkg/storage/continue.go`, `EncodeContinue`).
pub(super) fn next_page(path: &str, limit: u32, token: &str) -> Result<String, Unreadable> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
    if token.bytes().all(plain) {
        Ok(format!("{}&continue={token}", first_page(path, limit)))
    } else {
        Err(Unreadable::Content)
    }
}

fn too_many(limit: u32) -> Answer {
    let most = usize::try_from(limit).unwrap_or_default() * MAX_PAGES;
    unknown(&format!("not read: there are more than {most}"))
}

/// What was read, or the answer that says it could not be.
fn read<T>(read: serde_json::Result<T>) -> Result<T, Unreadable> {
    read.map_err(|_| Unreadable::Content)
}

/// The key names, read while the bytes pass.
async fn keys(body: Body) -> Result<Vec<Box<str>>, Unreadable> {
    let mut body = Limited::new(body, MAX_BODY);
    let mut keys = Keys::default();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame.map_err(Unreadable::body)?.into_data() {
            keys.push(&chunk).map_err(|_| Unreadable::Content)?;
        }
    }
    keys.finish().map_err(|_| Unreadable::Content)
}

pub(super) async fn whole(body: Body, limit: usize) -> Result<String, Unreadable> {
    let bytes = Limited::new(body, limit)
        .collect()
        .await
        .map_err(Unreadable::body)?
        .to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| Unreadable::Content)
}

fn unknown(words: &str) -> Answer {
    Answer::Unknown(Unknown::Refused(short(words)))
}

fn short(words: &str) -> Box<str> {
    words.chars().take(MAX_WORDS).collect()
}

/// What went wrong at the bottom: "Connection refused", not "client error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

// === impl Refusal ===

impl Refusal {
    fn read(status: StatusCode, body: &str) -> Self {
        let Status {
            kind,
            reason,
            message,
            metadata,
        } = serde_json::from_str(body).unwrap_or_default();
        let says = |field: &Option<Text<'_>>, word| field.as_deref() == Some(word);
        let is_missing =
            status == StatusCode::NOT_FOUND && says(&kind, "Status") && says(&reason, "NotFound");
        Self {
            status: Some(status),
            is_missing,
            words: match message.as_deref() {
                Some(message) => short(&format!("{status}: {message}")),
                None => short(&status.to_string()),
            },
            token: metadata.next().map(Into::into),
        }
    }

    pub(super) fn unanswered(words: &str) -> Self {
        Self {
            status: None,
            is_missing: false,
            words: short(&format!("no answer: {words}")),
            token: None,
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        if refusal.is_missing {
            Self::Missing
        } else {
            Self::Unknown(Unknown::Refused(refusal.words))
        }
    }
}

// === impl Unreadable ===

impl Unreadable {
    fn body(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        if error.is::<LengthLimitError>() {
            Self::TooLarge
        } else {
            Self::Body(error)
        }
    }
}

impl From<Unreadable> for Answer {
    fn from(error: Unreadable) -> Self {
        unknown(&error.to_string())
    }
}

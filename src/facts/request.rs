//! One question to the API server, and what its answer means.

use std::collections::{BTreeMap, BTreeSet};

use http_body_util::{BodyExt as _, Limited};
use kube::{Client, client::Body};
use serde::Deserialize;

use super::{
    access, decode,
    exchange::{JSON, MAX_BODY, Refusal, Unreadable, first_page, next_page, send, whole},
    keys::Keys,
    network,
    page::{AS_TABLE, FEW, MAX_PAGES, NodePage, PAGE, Page},
    producers::{self, Wanted},
};
use crate::policy::{
    facts::{Answer, Producer, Query, Revision, Unknown, Versions},
    precedent,
};

/// As much of a refusal's message as fits into a warning of 256 characters with what the judge says round it.
const MAX_WORDS: usize = 120;

/// The answer of `/version`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerVersion {
    git_version: String,
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

fn unknown(words: &str) -> Answer {
    Answer::Unknown(Unknown::Refused(short(words)))
}

fn short(words: &str) -> Box<str> {
    words.chars().take(MAX_WORDS).collect()
}

// === impl Answer ===

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        if refusal.is_missing {
            Self::Missing
        } else {
            Self::Unknown(Unknown::Refused(short(&refusal.words)))
        }
    }
}

impl From<Unreadable> for Answer {
    fn from(error: Unreadable) -> Self {
        unknown(&error.to_string())
    }
}

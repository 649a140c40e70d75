//! A list of workloads, page by page, however long it is.

use std::time::Duration;

use http::StatusCode;
use kube::Client;
use tokio::time::timeout;

use super::{
    access,
    page::Page,
    request::{self, JSON, MAX_BODY, Refusal, Unreadable},
};
use crate::policy::workload::WorkloadKind;

/// Workloads on a page: half a megabyte of common ones, managed fields included.
const PAGE: u32 = 100;

/// Of one page: a large one from an API server that is busy.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A list, read as it is asked for.
pub struct Pages {
    client: Client,
    path: String,
    limit: u32,
    /// What asks for the next page; none before the first.
    token: Option<Box<str>>,
    ended: bool,
    text: String,
}

/// Why a list can't be read, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlisted {
    /// No such kind is served.
    #[error("it is not served")]
    NotServed,
    /// The API server answered something else; its status in words.
    #[error("the API server answered {0}")]
    Refused(Box<str>),
}

/// Why a page can't be read.
enum Failure {
    /// It may come smaller, or with another token.
    Again,
    Final(Unlisted),
}

// === impl Pages ===

impl Pages {
    /// All objects of `kind`, in one namespace or in all.
    pub(super) fn new(client: Client, kind: &WorkloadKind, namespace: Option<&str>) -> Self {
        let path = access::list_path(kind, namespace);
        Self {
            client,
            limit: PAGE,
            token: None,
            ended: path.is_none(),
            path: path.unwrap_or_default(),
            text: String::new(),
        }
    }

    /// The next page; `None` after the last. After an error there is none.
    pub async fn next(&mut self) -> Result<Option<Page<'_>>, Unlisted> {
        if self.ended {
            return Ok(None);
        }
        loop {
            match self.fetch().await {
                Ok(text) => {
                    self.text = text;
                    break;
                }
                Err(Failure::Again) => {}
                Err(Failure::Final(unlisted)) => {
                    self.ended = true;
                    return Err(unlisted);
                }
            }
        }
        let page = Page::read(&self.text);
        let page = page.map_err(|_| Unlisted::Refused("something that is no list".into()));
        self.token = page.as_ref().ok().and_then(Page::next).map(Into::into);
        self.ended = self.token.is_none();
        page.map(Some)
    }

    async fn fetch(&mut self) -> Result<String, Failure> {
        let path = match &self.token {
            None => Ok(request::first_page(&self.path, self.limit)),
            Some(token) => request::next_page(&self.path, self.limit, token),
        };
        let path = path.map_err(|error| Failure::Final(Unlisted::of(&error)))?;
        let exchange = async {
            let body = request::send(&self.client, &path, JSON).await?;
            Ok(request::whole(body, MAX_BODY).await)
        };
        match timeout(TIMEOUT, exchange).await {
            Ok(Ok(Ok(text))) => Ok(text),
            Ok(Ok(Err(Unreadable::TooLarge))) if self.limit > 1 => {
                self.limit /= 2;
                Err(Failure::Again)
            }
            Ok(Ok(Err(error))) => Err(Failure::Final(Unlisted::of(&error))),
            Ok(Err(refusal)) => Err(self.refused(refusal)),
            Err(_) => {
                let words = format!("nothing in {} s", TIMEOUT.as_secs());
                Err(Failure::Final(Unlisted::Refused(words.into())))
            }
        }
    }

    fn refused(&mut self, refusal: Refusal) -> Failure {
        match (refusal.status, refusal.token) {
            // A token outlives etcd's compaction, some five minutes, only in this: what is read from here on may be newer
            // than what was read before (apiserver `pkg/storage/etcd3/errors.go`, `handleExpiredTokenError`).
            (Some(StatusCode::GONE), Some(token)) if self.token.as_ref() != Some(&token) => {
                self.token = Some(token);
                Failure::Again
            }
            (Some(StatusCode::NOT_FOUND), _) => Failure::Final(Unlisted::NotServed),
            _ => Failure::Final(Unlisted::Refused(refusal.words)),
        }
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

// === impl Unlisted ===

impl Unlisted {
    fn of(error: &Unreadable) -> Self {
        Self::Refused(format!("with a page that can't be used: {error}").into())
    }
}

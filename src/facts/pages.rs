//! A list of workloads, page by page, however long it is.

use std::time::Duration;

use http::StatusCode;
use kube::Client;
use tokio::time::timeout;

use super::{
    access,
    exchange::{self, JSON, MAX_BODY, Refusal, Unreadable},
    page::Page,
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
            None => Ok(exchange::first_page(&self.path, self.limit)),
            Some(token) => exchange::next_page(&self.path, self.limit, token),
        };
        let path = path.map_err(|error| Failure::Final(Unlisted::of(&error)))?;
        let exchange = async {
            let body = exchange::send(&self.client, &path, JSON).await?;
            Ok(exchange::whole(body, MAX_BODY).await)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use serde_json::{Value, json, value::RawValue};

    use super::*;
    use crate::{
        facts::{
            Meters,
            testing::{Api, Reply},
        },
        policy::workload::KINDS,
    };

    fn page(items: &[u32], next: &str) -> Value {
        let metadata = json!({"continue": next, "remainingItemCount": 7});
        json!({"metadata": metadata, "items": items})
    }

    /// What all pages hold, and how it ended.
    async fn read(api: &Api) -> (Vec<String>, Result<(), Unlisted>) {
        let mut pages = api.live(Meters::unwatched()).list(&KINDS[1], Some("shop"));
        let mut items = Vec::new();
        loop {
            match pages.next().await {
                Ok(Some(page)) => items.extend(page.items().map(RawValue::to_string)),
                Ok(None) => return (items, Ok(())),
                Err(unlisted) => {
                    assert!(matches!(pages.next().await, Ok(None)), "after an error");
                    return (items, Err(unlisted));
                }
            }
        }
    }

    const LIST: &str = "/apis/apps/v1/namespaces/shop/deployments";

    #[tokio::test]
    async fn a_list_is_read_page_by_page_to_its_end() {
        let api = Api::start(|path| {
            Reply::Object(match path.split_once("&continue=") {
                None => page(&[1, 2], "a"),
                Some((_, "a")) => page(&[3], "b"),
                Some(_) => page(&[4], ""),
            })
        })
        .await;
        assert_eq!(
            read(&api).await,
            (["1", "2", "3", "4"].map(String::from).into(), Ok(()))
        );
        let expected = [
            format!("{LIST}?limit=100"),
            format!("{LIST}?limit=100&continue=a"),
            format!("{LIST}?limit=100&continue=b"),
        ];
        assert_eq!(api.asked(), expected);
    }

    #[tokio::test]
    async fn a_page_that_is_too_large_comes_in_parts() {
        let api = Api::start(|path| {
            if path.contains("limit=25") {
                return Reply::Object(page(&[1], ""));
            }
            Reply::Raw(200, Bytes::from(vec![b' '; MAX_BODY + 1]))
        })
        .await;
        assert_eq!(read(&api).await, (vec![String::from("1")], Ok(())));
        assert_eq!(api.asked().len(), 3, "100, 50, 25");
    }

    /// etcd is compacted every five minutes, and a slow walk outlives its token.
    #[tokio::test]
    async fn a_token_that_has_expired_is_exchanged_once() {
        let expired = |token: &str| {
            let status = json!({
                "kind": "Status", "reason": "Expired", "message": "too old",
                "metadata": {"continue": token},
            });
            Reply::Raw(410, status.to_string().into())
        };
        let turns = AtomicUsize::new(0);
        let api = Api::start(move |path| match path.split_once("&continue=") {
            None => Reply::Object(page(&[1], "old")),
            Some((_, "old")) => expired("fresh"),
            Some(_) if turns.fetch_add(1, Ordering::Relaxed) == 0 => {
                Reply::Object(page(&[2], "stuck"))
            }
            Some((_, token)) => expired(token),
        })
        .await;
        let (items, end) = read(&api).await;
        assert_eq!(items, ["1", "2"]);
        let said = Unlisted::Refused("410 Gone: too old".into());
        assert_eq!(end, Err(said), "the same token again would lead nowhere");
    }

    #[tokio::test]
    async fn what_is_not_served_is_told_from_what_is_refused() {
        for (code, expected) in [
            (404, Unlisted::NotServed),
            (
                403,
                Unlisted::Refused("403 Forbidden: Why says the API server".into()),
            ),
        ] {
            let api = Api::start(move |_| Reply::Status(code, "Why")).await;
            assert_eq!(read(&api).await, (vec![], Err(expected)));
        }
        let api = Api::start(|_| Reply::Object(json!({"items": 1}))).await;
        assert!(matches!(read(&api).await.1, Err(Unlisted::Refused(_))));
    }
}

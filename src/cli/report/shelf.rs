//! The reports in the cluster: ours are read, compared with what is to be said, and written where they differ.

use std::{collections::HashMap, sync::Arc};

use http::{Request, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    metrics::{Metrics, Object, Outcome},
    write::{Refused, write},
};
use crate::{
    audit::{
        Record, Report,
        policy_report::{self, Format, MANAGED_BY, NAME, OPEN_REPORTS, POLICY_REPORTS},
    },
    cli::cluster::Api,
};

/// Who writes reports, by server-side apply.
const MANAGER: &str = "portcullis-report";

/// Reports on a page: each may be as large as a report is allowed to be.
const PAGE: u32 = 10;

/// Writes that fail in a row, after which no more are tried in this round: what fails for all fails for the rest.
const FAILURES: usize = 20;

/// Why no report was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShelfError {
    /// Neither API is there.
    #[error(
        "neither openreports.io/v1alpha1 nor wgpolicyk8s.io/v1alpha2 is served, so no report can be written: \
         kubectl apply -f https://raw.githubusercontent.com/openreports/reports-api/v0.2.1/config/install.yaml"
    )]
    NotServed,
    /// The reports that are there can't be read.
    #[error("the reports can't be read: {0}{help}", help = mend(.0))]
    Unread(String),
    /// Some could not be written.
    #[error(
        "{count} reports could not be written or deleted, one of them since {why}{}",
        mend(why)
    )]
    Unwritten {
        /// How many.
        count: usize,
        /// Of one of them.
        why: String,
    },
}

/// What is to be done about a namespace's report.
enum Deed<'r> {
    Write(&'r [Record]),
    Delete { path: String, live: Live },
}

/// As much of a live report as says which it is.
#[derive(Deserialize)]
struct Live {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
}

/// The reports of a cluster.
pub(super) struct Shelf<'a> {
    pub(super) api: &'a Api,
    pub(super) metrics: &'a Metrics,
    /// Only in these namespaces; none means all.
    pub(super) namespaces: &'a [String],
}

/// What helps, where a right is missing.
fn mend(why: &str) -> &'static str {
    if why.contains("403 Forbidden") {
        "; the rights are in manifests/report"
    } else {
        ""
    }
}

// === impl Shelf ===

impl Shelf<'_> {
    /// Brings all reports to what `report` says, which must be whole.
    pub(super) async fn keep(&self, report: &Report) -> Result<(), ShelfError> {
        let (format, former) = self.formats().await?;
        let (mut deeds, nothing) = (self.deeds(format, report).await?, Report::default());
        if let Some(former) = former {
            // What was written before the newer API came would never change again.
            deeds.extend(self.deeds(former, &nothing).await?);
        }
        let (mut failed, mut in_a_row, mut last) = (0, 0, String::new());
        let mut rest = deeds.into_iter();
        for deed in rest.by_ref() {
            match self.carry_out(format, deed).await {
                Ok(outcome) => {
                    in_a_row = 0;
                    self.metrics.count(Object::Report, outcome, 1);
                }
                Err(Refused::Going) => self.metrics.count(Object::Report, Outcome::Failed, 1),
                Err(Refused::Because(why)) => {
                    self.metrics.count(Object::Report, Outcome::Failed, 1);
                    (failed, in_a_row, last) = (failed + 1, in_a_row + 1, why);
                }
            }
            if in_a_row == FAILURES {
                break;
            }
        }
        let count = failed + rest.count();
        if count == 0 {
            return Ok(());
        }
        Err(ShelfError::Unwritten { count, why: last })
    }

    /// The API to write, and the other one where that is served, too.
    async fn formats(&self) -> Result<(&'static Format, Option<&'static Format>), ShelfError> {
        let mut served = Vec::new();
        for format in [&OPEN_REPORTS, &POLICY_REPORTS] {
            if self.serves(format).await? {
                served.push(format);
            }
        }
        match *served {
            [first, ..] => Ok((first, served.get(1).copied())),
            [] => Err(ShelfError::NotServed),
        }
    }

    async fn serves(&self, format: &Format) -> Result<bool, ShelfError> {
        let found = self.api.get::<Value>(&format.api()).await;
        let found = found.map_err(ShelfError::Unread)?;
        let resources = found.as_ref().and_then(|list| list.get("resources"));
        let mut resources = resources.and_then(Value::as_array).into_iter().flatten();
        Ok(resources.any(|resource| {
            resource
                .get("name")
                .is_some_and(|name| name == format.resource)
        }))
    }

    /// What differs. One page of live reports is held at a time.
    async fn deeds<'r>(
        &self,
        format: &Format,
        report: &'r Report,
    ) -> Result<Vec<Deed<'r>>, ShelfError> {
        let namespaces = report.by_namespace();
        let mut missing: HashMap<Arc<str>, &[Record]> = namespaces.collect();
        let mut deeds = Vec::new();
        let mut unchanged = 0;
        let (label, value) = MANAGED_BY;
        let selector = format!("{}%3D{value}", label.replace('/', "%2F"));
        let path = format!("{}?labelSelector={selector}", format.path());
        let take = |item: &Value| {
            let Some(live) = self.ours(item) else {
                return;
            };
            let namespace = live.metadata.namespace.as_str();
            let records = missing.remove(namespace);
            match records.and_then(|records| Some((records, format.report(records)?))) {
                Some((_, report)) if policy_report::says_the_same(&report, item) => unchanged += 1,
                Some((records, _)) => deeds.push(Deed::Write(records)),
                None => deeds.push(Deed::Delete {
                    path: format.path_in(namespace),
                    live,
                }),
            }
        };
        let read = self.api.each_of(&path, PAGE, take).await;
        read.map_err(ShelfError::Unread)?;
        self.metrics
            .count(Object::Report, Outcome::Unchanged, unchanged);
        deeds.extend(missing.into_values().map(Deed::Write));
        Ok(deeds)
    }

    fn ours(&self, item: &Value) -> Option<Live> {
        let live = Live::deserialize(item).ok()?;
        let Metadata {
            name, namespace, ..
        } = &live.metadata;
        let is_meant = self.namespaces.is_empty() || self.namespaces.contains(namespace);
        (name == NAME && is_meant).then_some(live)
    }

    async fn carry_out(&self, format: &Format, deed: Deed<'_>) -> Result<Outcome, Refused> {
        let (request, body, outcome) = match deed {
            Deed::Write(records) => {
                let Some((report, first)) = format.report(records).zip(records.first()) else {
                    return Ok(Outcome::Unchanged); // all is well there, and no report says otherwise
                };
                let path = format.path_in(&first.namespace);
                let apply = Request::patch(format!("{path}?fieldManager={MANAGER}&force=true"));
                let apply = apply.header(CONTENT_TYPE, "application/apply-patch+yaml");
                (apply, report, Outcome::Written)
            }
            Deed::Delete { path, live } => {
                let Metadata {
                    uid,
                    resource_version,
                    ..
                } = live.metadata;
                let as_read = json!({"uid": uid, "resourceVersion": resource_version});
                let delete = Request::delete(path);
                (
                    delete,
                    json!({ "preconditions": as_read }),
                    Outcome::Deleted,
                )
            }
        };
        write(self.api, request, &body).await.map(|()| outcome)
    }
}

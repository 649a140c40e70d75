//! The authority in the webhook configurations: is it the one that signs what is served, and is it still good?

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::Value;

use super::{
    patient::Patient,
    registration::{self, entries},
    report::Line,
};
use crate::{facts::access::CA_SECRET, webhook::metrics::Configuration};

/// A certificate that ends sooner is spoken of.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The Secret of our authority, but for its key.
#[derive(Deserialize)]
struct Authority {
    data: Option<AuthorityData>,
}

#[derive(Deserialize)]
struct AuthorityData {
    #[serde(rename = "tls.crt")]
    certificate: Option<String>,
}

/// On a configuration whose `caBundle` cert-manager's cainjector writes, from this Certificate.
const INJECT_FROM: &str = "/metadata/annotations/cert-manager.io~1inject-ca-from";

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let mut bundles = BTreeSet::new();
    let mut injected_from = None;
    for configuration in Configuration::ALL {
        match patient.configuration(configuration).await {
            Ok(live) => {
                let live = live.unwrap_or_default();
                bundles.extend(entries(&live).map(bundle));
                let from = live.pointer(INJECT_FROM).and_then(Value::as_str);
                injected_from = injected_from.or_else(|| from.map(str::to_owned));
            }
            Err(why) => return vec![Line::unknown(&registration::title(configuration), &why)],
        }
    }
    let logs = match &injected_from {
        None => format!(
            "the server writes caBundle within a minute: kubectl -n {} logs deployment/portcullis",
            patient.namespace
        ),
        Some(certificate) => format!(
            "cert-manager's cainjector writes caBundle from Certificate {certificate}: see that both are well (kubectl -n {} \
             get certificates)",
            patient.namespace
        ),
    };
    if bundles.len() > 1 {
        let text = "the entries of the webhook configurations differ in caBundle, so the API server can't trust us at all \
                    of them";
        return vec![Line::fail(text, logs)];
    }
    let Some(bundle) = bundles.pop_first().filter(|bundle| !bundle.is_empty()) else {
        return vec![Line::fail(
            "the webhook configurations have no caBundle, so the API server can't trust us",
            logs,
        )];
    };
    let mut lines = vec![validity(&bundle, SystemTime::now(), &logs)];
    if let Some(certificate) = injected_from {
        // Whether it fits what is served is seen where we are reached.
        lines.push(Line::ok(format!(
            "caBundle is what cert-manager's cainjector writes, from Certificate {certificate}"
        )));
        return lines;
    }
    let path = format!(
        "/api/v1/namespaces/{}/secrets/{CA_SECRET}",
        patient.namespace
    );
    match patient.api.get::<Authority>(&path).await {
        Ok(Some(authority)) => lines.push(compare(&bundle, authority, &logs)),
        // Certificates come from files, then; that they fit is seen where we are reached.
        Ok(None) => {}
        Err(why) => lines.push(Line::unknown(
            &format!("whether caBundle is the authority in Secret {CA_SECRET}"),
            &why,
        )),
    }
    lines
}

/// The authorities that an entry trusts, in PEM; none where there is no bundle.
fn bundle(entry: &Value) -> Vec<u8> {
    let text = entry.pointer("/clientConfig/caBundle");
    let text = text.and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(text).unwrap_or_default()
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).flatten().collect()
}

fn validity(bundle: &[u8], now: SystemTime, logs: &str) -> Line {
    let ends = certificates(bundle).into_iter().filter_map(|certificate| {
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        let seconds = certificate.validity().not_after.timestamp();
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
    });
    // Of an old and a new authority beside each other the later one counts.
    let Some(end) = ends.max() else {
        return Line::fail("caBundle holds no certificate that can be read", logs);
    };
    let day = humantime::format_rfc3339_seconds(end).to_string();
    let day = day.split('T').next().unwrap_or_default();
    match end.duration_since(now) {
        Err(_) => Line::fail(format!("the authority in caBundle ended on {day}"), logs),
        Ok(left) if left < SOON => {
            Line::warn(format!("the authority in caBundle ends on {day}"), logs)
        }
        Ok(_) => Line::ok(format!("all entries trust the same authority, until {day}")),
    }
}

fn compare(bundle: &[u8], authority: Authority, logs: &str) -> Line {
    let text = authority.data.and_then(|data| data.certificate);
    let pem = text.and_then(|text| STANDARD.decode(text).ok());
    let ours = certificates(&pem.unwrap_or_default());
    let trusted = certificates(bundle);
    if !ours.is_empty() && ours.iter().all(|certificate| trusted.contains(certificate)) {
        Line::ok(format!(
            "caBundle is the authority in Secret {CA_SECRET}, which signs what is served"
        ))
    } else {
        Line::fail(
            format!(
                "caBundle is not the authority in Secret {CA_SECRET}, which signs what is served: the API server refuses to \
                 speak with us"
            ),
            logs,
        )
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pem(end: SystemTime) -> String {
        let mut params = CertificateParams::new(["portcullis".to_owned()]).unwrap();
        params.not_after = end.into();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    fn said(line: &Line) -> String {
        serde_json::to_string(line).unwrap()
    }

    #[test]
    fn says_when_the_authority_ends_and_of_two_the_later_one_counts() {
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 60 * 60);
        let (over, soon, late) = (pem(now - day), pem(now + day), pem(now + 100 * day));
        for (bundle, level) in [
            (over.clone(), "fail"),
            (soon.clone(), "warn"),
            (late.clone(), "ok"),
            (format!("{over}{late}"), "ok"),
            ("nothing".to_owned(), "fail"),
        ] {
            let line = said(&validity(bundle.as_bytes(), now, "see the log"));
            assert!(line.contains(&format!("\"level\":\"{level}\"")), "{line}");
        }
    }

    #[test]
    fn the_bundle_must_hold_what_the_secret_holds() {
        let now = SystemTime::now() + SOON;
        let (ours, other) = (pem(now), pem(now));
        let authority = |pem: &str| Authority {
            data: Some(AuthorityData {
                certificate: Some(STANDARD.encode(pem)),
            }),
        };
        let both = format!("{other}{ours}");
        assert!(said(&compare(both.as_bytes(), authority(&ours), "")).contains("\"ok\""));
        assert!(said(&compare(other.as_bytes(), authority(&ours), "")).contains("\"fail\""));
        let nothing = Authority { data: None };
        assert!(said(&compare(ours.as_bytes(), nothing, "")).contains("\"fail\""));
    }
}

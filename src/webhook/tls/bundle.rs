//! Certificates that are trusted, as a set: whoever writes the same ones writes the same bytes.

use std::collections::BTreeSet;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::not_after;

/// Characters of base64 in a line of PEM (RFC 7468, section 2).
const LINE: usize = 64;

/// A set of certificates, in DER.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Bundle(BTreeSet<Vec<u8>>);

// === impl Bundle ===

impl Bundle {
    /// This one alone.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(BTreeSet::from([certificate.to_vec()]))
    }

    /// The certificates in a text; what is none is passed over.
    pub(super) fn from_pem(text: &[u8]) -> Self {
        let certificates = CertificateDer::pem_slice_iter(text).flatten();
        Self(certificates.map(|der| der.to_vec()).collect())
    }

    pub(super) fn to_pem(&self) -> String {
        let mut text = String::new();
        for der in &self.0 {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let mut rest = &*BASE64_STANDARD.encode(der);
            while !rest.is_empty() {
                let (line, more) = rest.split_at(LINE.min(rest.len())); // base64 is ASCII
                text.extend([line, "\n"]);
                rest = more;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }

    pub(super) fn insert(&mut self, certificate: &CertificateDer<'_>) {
        self.0.insert(certificate.to_vec());
    }

    pub(super) fn remove(&mut self, certificate: &CertificateDer<'_>) {
        self.0.remove(certificate.as_ref());
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn is_superset(&self, other: &Self) -> bool {
        self.0.is_superset(&other.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that are not in `other` and not over, at most so many.
    pub(super) fn beside(self, other: &Self, now: SystemTime, most: usize) -> Self {
        let is_good = |der: &Vec<u8>| {
            let end = not_after(&CertificateDer::from(der.as_slice()));
            end.is_ok_and(|end| end > now)
        };
        let new = self.0.into_iter().filter(|der| !other.0.contains(der));
        Self(new.filter(is_good).take(most).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Authority, Lifetimes};
    use super::*;

    #[test]
    fn the_same_certificates_are_the_same_text_in_whatever_order_they_came() {
        let now = SystemTime::now();
        let make = || Authority::generate(now, &Lifetimes::PROGRAM).unwrap();
        let (one, two) = (make(), make());
        let text = |parts: [&str; 3]| Bundle::from_pem(parts.concat().as_bytes());
        let (one, two) = (one.certificate_pem(), two.certificate_pem());
        let bundle = text([one, "a word between\n", two]);
        assert_eq!(bundle.len(), 2);
        assert_eq!(bundle.to_pem(), text([two, one, two]).to_pem());
        assert_eq!(Bundle::from_pem(bundle.to_pem().as_bytes()), bundle);
    }

    #[test]
    fn takes_from_beside_only_what_is_new_and_not_over() {
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 60 * 60);
        let [known, good, over] = [now, now, now - 366 * day].map(|made| {
            let authority = Authority::generate(made, &Lifetimes::PROGRAM).unwrap();
            Bundle::from_pem(authority.certificate_pem().as_bytes())
        });
        let mut found = known.clone();
        found.extend(good.clone());
        found.extend(over);
        assert_eq!(found.clone().beside(&known, now, 8), good);
        assert!(found.beside(&known, now, 0).is_empty());
    }
}

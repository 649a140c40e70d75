//! Kinds of objects that declare a Secret which their controller makes a moment later.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Producer {
    /// Of the External Secrets Operator.
    ExternalSecret,
    /// Of the same: makes ExternalSecrets in several namespaces.
    ClusterExternalSecret,
    /// Of Sealed Secrets.
    SealedSecret,
    /// Of cert-manager.
    Certificate,
    /// Of the Secrets Store CSI driver, by its `secretObjects`.
    SecretProviderClass,
}

// === impl Producer ===

impl Producer {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ExternalSecret,
        Self::ClusterExternalSecret,
        Self::SealedSecret,
        Self::Certificate,
        Self::SecretProviderClass,
    ];

    /// As manifests write it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::ExternalSecret => "ExternalSecret",
            Self::ClusterExternalSecret => "ClusterExternalSecret",
            Self::SealedSecret => "SealedSecret",
            Self::Certificate => "Certificate",
            Self::SecretProviderClass => "SecretProviderClass",
        }
    }

    /// Its API group, and its plural there.
    pub const fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::ExternalSecret => ("external-secrets.io", "externalsecrets"),
            Self::ClusterExternalSecret => ("external-secrets.io", "clusterexternalsecrets"),
            Self::SealedSecret => ("bitnami.com", "sealedsecrets"),
            Self::Certificate => ("cert-manager.io", "certificates"),
            Self::SecretProviderClass => ("secrets-store.csi.x-k8s.io", "secretproviderclasses"),
        }
    }
}

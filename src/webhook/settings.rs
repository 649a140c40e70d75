//! The settings in force: read at the start, and again whenever the file's content changes.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::Notify;

use super::polled::{Polled, ReadError, Reloads};
use crate::policy::settings::Settings;
use crate::settings;

/// The settings file can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It can be read, but not as settings.
    #[error(transparent)]
    Invalid(#[from] settings::Error),
}

/// Settings that change while they are used.
#[derive(Clone, Debug, Default)]
pub(crate) struct InForce {
    /// The last good ones.
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    /// Told of each change.
    pub(crate) changed: Arc<Notify>,
    /// The gate's image where the file names none.
    gate_image: Option<Arc<str>>,
}

// === impl InForce ===

impl InForce {
    /// The defaults, with the gate's image where one is given.
    pub(crate) fn new(gate_image: Option<String>) -> Self {
        let in_force = Self {
            gate_image: gate_image.map(Arc::from),
            ..Self::default()
        };
        in_force.put(Settings::default());
        in_force
    }

    fn put(&self, mut settings: Settings) {
        let image = &mut settings.gate.image;
        if image.is_none() {
            *image = self.gate_image.as_deref().map(str::to_owned);
        }
        self.settings.store(Arc::new(settings));
    }

    /// Puts what the file says in force, now and whenever it changes; an error if that can't be done now.
    pub(crate) async fn follow(
        &self,
        path: PathBuf,
        reloads: Reloads,
    ) -> Result<Polled<impl FnMut(&[Vec<u8>]) -> Result<(), SettingsError> + use<>>, SettingsError>
    {
        let (in_force, paths) = (self.clone(), vec![path.clone()]);
        let apply = move |contents: &[Vec<u8>]| {
            in_force.put(settings::parse(contents.concat(), &path)?);
            in_force.changed.notify_one();
            tracing::info!(file = %path.display(), "settings in force");
            Ok(())
        };
        Polled::start(paths, apply, reloads).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::finding::Level;
    use crate::telemetry::chain;
    use crate::webhook::polled::tests::{Mount, uncounted};

    #[tokio::test]
    async fn puts_new_settings_in_force_after_the_symlink_swap_of_a_kubelet() {
        let mut mount = Mount::new(&[("settings.yaml", "enforce: warn\n")]);
        let in_force = InForce::default();
        let following = in_force.follow(mount.path("settings.yaml"), uncounted());
        let mut polled = following.await.unwrap();
        assert_eq!(in_force.settings.load().enforce, Level::Warn);
        in_force.changed.notified().await;
        mount.update(&[("settings.yaml", "enforce: none\n")]);
        polled.look().await.unwrap();
        assert_eq!(in_force.settings.load().enforce, Level::None);
        in_force.changed.notified().await;
    }

    #[tokio::test]
    async fn the_gate_s_image_is_the_file_s_or_else_the_flag_s() {
        let mut mount = Mount::new(&[("settings.yaml", "gate: {image: from-file}\n")]);
        let in_force = InForce::new(Some("from-flag".to_owned()));
        let image = || in_force.settings.load().gate.image.clone();
        assert_eq!(image().as_deref(), Some("from-flag"));
        let following = in_force.follow(mount.path("settings.yaml"), uncounted());
        let mut polled = following.await.unwrap();
        assert_eq!(image().as_deref(), Some("from-file"));
        mount.update(&[("settings.yaml", "enforce: warn\n")]);
        polled.look().await.unwrap();
        assert_eq!(image().as_deref(), Some("from-flag"));
    }

    #[tokio::test]
    async fn keeps_the_last_good_settings_and_says_file_line_and_field() {
        let mut mount = Mount::new(&[("settings.yaml", "enforce: warn\n")]);
        let in_force = InForce::default();
        let following = in_force.follow(mount.path("settings.yaml"), uncounted());
        let mut polled = following.await.unwrap();
        mount.update(&[("settings.yaml", "# a comment\nenforce: loudly\n")]);
        let error = chain(&polled.look().await.unwrap_err());
        let place = format!("{}:2:", mount.path("settings.yaml").display());
        assert!(
            error.starts_with(&place) && error.contains("enforce"),
            "{error}"
        );
        assert_eq!(in_force.settings.load().enforce, Level::Warn);
    }
}

//! Replicas, what their clients see, and an API server that tells these whom to trust.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::advance;

use super::super::succession::{PREVIOUS_UNTIL, ROTATE};
use super::super::testing::ApiServer;
use super::*;

const NAME: &str = "portcullis.portcullis-system.svc";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

/// One replica: its keeper, and what its clients see.
struct Replica {
    keeper: Keeper,
    certificates: Arc<Certificates>,
    trust: watch::Receiver<Trust>,
}

impl Replica {
    fn new(server: &ApiServer) -> Self {
        let certificates = Arc::new(Certificates::new(Gauge::noop()));
        let (publish, trust) = watch::channel(Trust::Unknown);
        let mut keeper = Keeper::new(
            &server.client(),
            "portcullis-system",
            vec![NAME.to_owned()],
            Arc::clone(&certificates),
            (publish, Gauge::noop()),
        );
        keeper.jitter = Jitter::default();
        Self {
            keeper,
            certificates,
            trust,
        }
    }

    /// One that is settled: what it serves is trusted.
    async fn settled(server: &ApiServer, now: SystemTime) -> Self {
        let mut replica = Self::new(server);
        replica.keeper.look(now).await.unwrap();
        server.publish(&replica.trust());
        assert_eq!(replica.keeper.look(now).await.unwrap(), Standing::Settled);
        replica
    }

    /// Looks again, as [`Keeper::run`] does, until it has nothing to wait for; publishes what it says.
    async fn settle(&mut self, server: &ApiServer, now: SystemTime) {
        for _ in 0..20 {
            if self.keeper.look(now).await.unwrap() == Standing::Settled {
                return;
            }
            server.publish(&self.trust());
            advance(PERIOD).await;
        }
        panic!("it never settles");
    }

    fn served(&self) -> Vec<CertificateDer<'static>> {
        let served = self.certificates.current.load_full();
        served.expect("something is served").cert.clone()
    }

    fn trust(&self) -> Trust {
        self.trust.borrow().clone()
    }

    /// A client that trusts `bundle` accepts, at `now`, what this replica serves.
    fn is_trusted_by(&self, bundle: &str, now: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        if roots.is_empty() {
            return false;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let served = self.served();
        let name = ServerName::try_from(NAME).unwrap();
        let now = UnixTime::since_unix_epoch(since_1970(now));
        let verifier = verifier.build().unwrap();
        verifier
            .verify_server_cert(&served[0], &served[1..], &name, &[], now)
            .is_ok()
    }

    /// The API server accepts it, whichever entry it calls by.
    fn is_trusted(&self, server: &ApiServer, now: SystemTime) -> bool {
        let bundles = server.bundles();
        bundles.iter().all(|bundle| self.is_trusted_by(bundle, now))
    }
}

fn ask(server: &ApiServer) {
    let mut secret = server.secret().unwrap();
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(ROTATE.to_owned(), "now".to_owned());
    server.put(Some(secret));
}

fn fields(server: &ApiServer) -> Vec<String> {
    let secret = server.secret().unwrap();
    secret.data.unwrap().into_keys().collect()
}

fn certificate(server: &ApiServer, field: &str) -> Vec<u8> {
    server.secret().unwrap().data.unwrap()[field].0.clone()
}

#[tokio::test]
async fn replicas_that_start_together_end_with_one_authority() {
    let server = ApiServer::default();
    let (mut one, mut two) = (Replica::new(&server), Replica::new(&server));
    let now = SystemTime::now();
    server.answer_reads_together(2); // both find nothing, both try to create
    let (first, second) = tokio::join!(one.keeper.look(now), two.keeper.look(now));
    first.and(second).unwrap();
    assert_eq!(one.trust(), two.trust());
    server.publish(&one.trust());
    assert!(one.is_trusted(&server, now) && two.is_trusted(&server, now));
    assert_ne!(
        one.served()[0],
        two.served()[0],
        "each has a key of its own"
    );
}

#[tokio::test]
async fn replicas_that_meet_an_expired_authority_end_with_one_new() {
    let server = ApiServer::default();
    let now = SystemTime::now();
    Replica::settled(&server, now - Lifetimes::PROGRAM.authority - DAY).await;
    let old = certificate(&server, "tls.crt");
    let (mut one, mut two) = (Replica::new(&server), Replica::new(&server));
    server.answer_reads_together(2);
    let (first, second) = tokio::join!(one.keeper.look(now), two.keeper.look(now));
    first.and(second).unwrap();
    assert_ne!(certificate(&server, "tls.crt"), old);
    assert_eq!(one.trust(), two.trust());
    assert!(!one.is_trusted(&server, now), "nobody knows of it yet");
    server.publish(&two.trust());
    assert!(one.is_trusted(&server, now) && two.is_trusted(&server, now));
}

#[tokio::test]
async fn is_ready_when_every_entry_trusts_what_it_serves() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::new(&server);
    // There are no configurations: nobody calls it, so nobody can be lost.
    assert_eq!(replica.keeper.look(now).await.unwrap(), Standing::Settled);
    let Trust::Bundle(ours) = replica.trust() else {
        panic!("it has told whom to trust")
    };
    for bundles in [["", ""], [&ours, ""], ["", &ours]] {
        server.overwrite(bundles);
        assert_eq!(replica.keeper.look(now).await.unwrap(), Standing::Untrusted);
    }
    server.overwrite([&ours, &ours]);
    assert_eq!(replica.keeper.look(now).await.unwrap(), Standing::Settled);
}

#[tokio::test]
async fn wakes_the_registration_when_a_bundle_was_overwritten() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    replica.trust.mark_unchanged();
    replica.keeper.look(now).await.unwrap();
    assert!(!replica.trust.has_changed().unwrap());
    let Trust::Bundle(ours) = replica.trust() else {
        panic!("it has told whom to trust")
    };
    replica.trust.mark_unchanged();
    server.overwrite([&ours, "somebody else's"]);
    replica.keeper.look(now).await.unwrap();
    assert!(replica.trust.has_changed().unwrap());
}

#[tokio::test]
async fn puts_back_authorities_that_were_deleted() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    ask(&server);
    replica.keeper.look(now).await.unwrap();
    let (data, before) = (server.secret().unwrap().data, replica.served());
    assert!(data.as_ref().unwrap().contains_key("next.key"));
    server.put(None);
    replica.keeper.look(now).await.unwrap();
    assert_eq!(server.secret().unwrap().data, data, "also the next one");
    assert_eq!(replica.served(), before, "nothing changes for clients");
}

#[tokio::test(start_paused = true)]
async fn puts_the_next_one_beside_the_current_one_when_asked() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    let first = replica.served();

    ask(&server);
    replica.keeper.look(now).await.unwrap();
    assert_eq!(
        fields(&server),
        ["next.crt", "next.key", "tls.crt", "tls.key"]
    );
    let secret = server.secret().unwrap();
    let is_asked = |secret: &Secret| {
        secret
            .metadata
            .annotations
            .clone()
            .unwrap()
            .contains_key(ROTATE)
    };
    assert!(!is_asked(&secret), "it is asked for once");
    for _ in 0..20 {
        // Nobody publishes it.
        assert_eq!(replica.keeper.look(now).await.unwrap(), Standing::Trusted);
        advance(PERIOD).await;
    }
    assert_eq!(replica.served(), first);
}

#[tokio::test(start_paused = true)]
async fn signs_by_the_next_one_when_every_entry_has_had_it_for_a_minute() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    let (first, old) = (replica.served(), certificate(&server, "tls.crt"));
    ask(&server);
    replica.keeper.look(now).await.unwrap();

    // In one of the two configurations only; then in both, but not for long enough.
    let (Trust::Bundle(both), [before, _]) = (replica.trust(), server.bundles()) else {
        panic!("it has told whom to trust")
    };
    server.overwrite([&both, &before]);
    replica.keeper.look(now).await.unwrap();
    advance(MINUTE * 2).await;
    replica.keeper.look(now).await.unwrap();
    server.overwrite([&both, &both]);
    replica.keeper.look(now).await.unwrap();
    advance(PERIOD * 5).await;
    replica.keeper.look(now).await.unwrap();
    server.overwrite([&before, &both]);
    replica.keeper.look(now).await.unwrap();
    server.overwrite([&both, &both]);
    replica.keeper.look(now).await.unwrap();
    advance(PERIOD * 2).await;
    replica.keeper.look(now).await.unwrap();
    assert_eq!(replica.served(), first, "a minute in one piece");

    advance(MINUTE).await;
    assert_eq!(replica.keeper.look(now).await.unwrap(), Standing::Settled);
    assert_ne!(replica.served(), first);
    assert_eq!(fields(&server), ["previous.crt", "tls.crt", "tls.key"]);
    assert_eq!(replica.trust(), Trust::Bundle(both), "nothing to write");
    assert_eq!(
        Bundle::from_pem(&certificate(&server, "previous.crt")),
        Bundle::from_pem(&old)
    );
}

#[tokio::test(start_paused = true)]
async fn trusts_the_previous_one_as_long_as_its_last_leaf_may_live() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    ask(&server);
    replica.settle(&server, now).await;
    assert_eq!(fields(&server), ["previous.crt", "tls.crt", "tls.key"]);

    let last_leaf = now + DAY * 7;
    replica.keeper.look(last_leaf).await.unwrap();
    assert_eq!(fields(&server), ["previous.crt", "tls.crt", "tls.key"]);
    let after = last_leaf + MINUTE * 61;
    replica.settle(&server, after).await;
    server.publish(&replica.trust());
    assert_eq!(fields(&server), ["tls.crt", "tls.key"]);
    assert_eq!(
        Bundle::from_pem(server.bundles()[0].as_bytes()),
        Bundle::from_pem(&certificate(&server, "tls.crt"))
    );
    assert!(replica.is_trusted(&server, last_leaf + DAY));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_during_a_rotation_signs_by_what_is_trusted() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    ask(&server);
    replica.keeper.look(now).await.unwrap();
    let mut late = Replica::new(&server);
    assert_eq!(late.keeper.look(now).await.unwrap(), Standing::Trusted);
    assert!(late.is_trusted(&server, now));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_another_has_put_there_is_published_before_it_signs() {
    let (server, elsewhere) = (ApiServer::default(), ApiServer::default());
    let now = SystemTime::now();
    let mut replica = Replica::settled(&server, now).await;
    Replica::settled(&elsewhere, now).await;
    let (first, other) = (replica.served(), elsewhere.secret());
    server.put(other.clone());

    replica.keeper.look(now).await.unwrap();
    assert_eq!(replica.served(), first);
    assert!(replica.is_trusted(&server, now));
    let Trust::Bundle(both) = replica.trust() else {
        panic!("it has told whom to trust")
    };
    assert_eq!(Bundle::from_pem(both.as_bytes()).len(), 2);

    replica.settle(&server, now).await;
    assert_ne!(replica.served(), first);
    let current = other.unwrap().data.unwrap()["tls.crt"].clone();
    assert_eq!(certificate(&server, "tls.crt"), current.0);
    assert!(replica.is_trusted(&server, now));
}

#[tokio::test]
async fn a_replica_that_starts_without_a_secret_leaves_the_trust_of_others_alone() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let running = Replica::settled(&server, now).await;
    let over = now - Lifetimes::PROGRAM.authority - DAY;
    let elsewhere = ApiServer::default();
    Replica::settled(&elsewhere, over).await;
    for secret in [None, elsewhere.secret()] {
        server.put(secret);
        let mut starting = Replica::new(&server);
        assert_eq!(
            starting.keeper.look(now).await.unwrap(),
            Standing::Untrusted
        );
        server.publish(&starting.trust());
        assert!(starting.is_trusted(&server, now));
        assert!(running.is_trusted(&server, now));
    }
}

#[tokio::test]
async fn an_expired_authority_that_somebody_puts_there_is_put_away() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    let good = server.secret().unwrap().data;
    let elsewhere = ApiServer::default();
    Replica::settled(&elsewhere, now - Lifetimes::PROGRAM.authority - DAY).await;
    server.put(elsewhere.secret());
    assert_eq!(replica.keeper.look(now).await.unwrap(), Standing::Settled);
    assert_eq!(server.secret().unwrap().data, good);
}

#[tokio::test]
async fn renews_at_two_thirds_of_the_leafs_life() {
    let (server, begin) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, begin).await;
    let first = replica.served();
    replica.keeper.look(begin + DAY * 4).await.unwrap();
    assert_eq!(replica.served(), first);
    replica.keeper.look(begin + DAY * 5).await.unwrap();
    assert_ne!(replica.served(), first);
    assert!(replica.is_trusted(&server, begin + DAY * 11));
}

#[tokio::test]
async fn renews_without_an_api_server_after_a_long_sleep() {
    let (server, begin) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, begin).await;
    server.go_down();
    let later = begin + DAY * 300;
    assert!(!replica.is_trusted(&server, later));
    replica.keeper.look(later).await.unwrap_err();
    assert!(replica.is_trusted(&server, later));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_by_400_days_changes_nothing_where_the_api_servers_is_right() {
    let (server, begin) = (ApiServer::default(), SystemTime::now());
    server.tell(begin);
    let mut replica = Replica::settled(&server, begin).await;
    let (secret, first) = (server.secret(), replica.served());
    for local in [begin + DAY * 400, begin - DAY * 400] {
        let looked = replica.keeper.look(local).await;
        assert_eq!(looked.unwrap(), Standing::Settled);
        assert_eq!(replica.served(), first);
        assert_eq!(server.secret(), secret);

        let mut starting = Replica::new(&server);
        let looked = starting.keeper.look(local).await;
        assert_eq!(looked.unwrap(), Standing::Settled);
        assert!(starting.is_trusted(&server, begin));
        assert_eq!(server.secret(), secret);
    }
    // It cannot be asked any more; timers go on.
    server.go_down();
    for local in [begin + DAY * 400, begin - DAY * 400] {
        let mut cut_off = Replica::settled(
            &{
                server.come_back();
                server.tell(begin);
                server.clone()
            },
            begin,
        )
        .await;
        server.go_down();
        cut_off.keeper.look(local).await.unwrap_err();
        assert!(cut_off.is_trusted(&server, begin));
        advance(DAY * 6).await;
        cut_off.keeper.look(local).await.unwrap_err();
        assert!(cut_off.is_trusted(&server, begin + DAY * 9));
    }
}

#[tokio::test]
async fn an_authority_that_was_made_by_a_wrong_clock_is_good_at_once() {
    let now = SystemTime::now();
    for wrong in [now + DAY * 400, now - DAY * 200] {
        let server = ApiServer::default();
        server.tell(wrong);
        let mut replica = Replica::settled(&server, wrong).await;
        let (before, authority) = (replica.served(), certificate(&server, "tls.crt"));
        server.tell(now);
        replica.keeper.look(now).await.unwrap();
        assert_eq!(certificate(&server, "tls.crt"), authority);
        assert!(replica.is_trusted(&server, now));
        assert_eq!(replica.served() == before, wrong > now);
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_clocks_jump_over_the_authoritys_end_a_new_one_is_published_and_signs_at_once() {
    let (server, begin) = (ApiServer::default(), SystemTime::now());
    server.tell(begin);
    let mut replica = Replica::settled(&server, begin).await;
    let later = begin + DAY * 400;
    server.tell(later);
    assert_eq!(replica.keeper.look(later).await.unwrap(), Standing::Trusted);
    server.publish(&replica.trust());
    replica.keeper.look(later).await.unwrap();
    assert!(
        replica.is_trusted(&server, later),
        "without a minute's wait"
    );
}

#[tokio::test]
async fn a_leaf_never_outlives_its_authority() {
    let (server, begin) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, begin).await;
    server.go_down();
    let near_the_end = begin + Lifetimes::PROGRAM.authority - DAY;
    replica.keeper.look(near_the_end).await.unwrap_err();
    let held = replica.keeper.held.as_ref().unwrap();
    assert_eq!(held.leaf.not_after(), held.signer.not_after());
    let last = replica.served();
    replica
        .keeper
        .look(near_the_end + DAY / 2)
        .await
        .unwrap_err();
    assert_eq!(replica.served(), last, "a new leaf would live no longer");
}

#[tokio::test(start_paused = true)]
async fn what_was_read_long_ago_is_told_to_nobody() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    let ours = replica.trust();
    server.go_down();
    replica.keeper.look(now).await.unwrap_err();
    assert_eq!(replica.trust(), ours);
    advance(STALE + PERIOD).await;
    replica.keeper.look(now).await.unwrap_err();
    assert_eq!(replica.trust(), Trust::AsFound);
    server.come_back();
    replica.keeper.look(now).await.unwrap();
    assert_eq!(replica.trust(), ours);
}

#[tokio::test]
async fn a_secret_that_holds_something_else_is_left_alone() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    Replica::settled(&server, now).await;
    let good = server.secret().unwrap();
    for (field, why) in [("tls.key", "tls.key"), ("next.crt", "next.key")] {
        let mut secret = good.clone();
        let data = secret.data.as_mut().unwrap();
        data.insert(field.to_owned(), ByteString(b"nothing".to_vec()));
        server.put(Some(secret.clone()));
        let error = Replica::new(&server).keeper.look(now).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Secret portcullis-ca holds no usable authority in {why}; delete it, and a good one is put there"
            )
        );
        assert_eq!(server.secret().unwrap().data, secret.data);
    }
}

#[tokio::test]
async fn an_end_of_the_previous_one_that_cannot_be_read_is_written_anew() {
    let (server, now) = (ApiServer::default(), SystemTime::now());
    let mut replica = Replica::settled(&server, now).await;
    let mut secret = server.secret().unwrap();
    let data = secret.data.as_mut().unwrap();
    data.insert("previous.crt".to_owned(), data["tls.crt"].clone());
    server.put(Some(secret));
    replica.keeper.look(now).await.unwrap();
    let secret = server.secret().unwrap();
    let until = &secret.metadata.annotations.unwrap()[PREVIOUS_UNTIL];
    let until = humantime::parse_rfc3339(until).unwrap();
    assert!(until > now + DAY * 7 && until < now + DAY * 8);
}

/// What may come between two rounds.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    Ask,
    Delete,
    /// A replica starts anew.
    Restart(usize),
    /// A replica's reads and writes fail for so many rounds.
    CutOff(usize, u8),
    /// A replica writes what it says is to be trusted into both configurations.
    Registered(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => Just(Event::Nothing),
        1 => Just(Event::Ask),
        1 => Just(Event::Delete),
        1 => (0..2_usize).prop_map(Event::Restart),
        1 => (0..2_usize, 1..20_u8).prop_map(|(which, rounds)| Event::CutOff(which, rounds)),
        20 => (0..2_usize).prop_map(Event::Registered),
    ]
}

/// Small enough for several rotations in a run, in the program's proportions where these matter.
const SHORT: Lifetimes = Lifetimes {
    authority: Duration::from_secs(60 * 60),
    leaf: Duration::from_secs(10 * 60),
    skew: MINUTE,
    ..Lifetimes::PROGRAM
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// At every moment each replica serves what every entry trusts, whatever happens in whatever order.
    #[test]
    fn no_client_is_lost_while_authorities_come_and_go(events in prop::collection::vec(event(), 600)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(&events));
    }
}

/// Ten seconds a round, in which each replica looks and one of them, perhaps, registers.
async fn play(events: &[Event]) {
    let server = ApiServer::default();
    let mut now = SystemTime::now();
    server.tell(now);
    let mut replicas = [Replica::new(&server), Replica::new(&server)];
    let mut cut_off = [0_u8; 2];
    for replica in &mut replicas {
        replica.keeper.lifetimes = SHORT;
        replica.keeper.look(now).await.unwrap();
        server.publish(&replica.trust());
    }
    for (round, event) in events.iter().enumerate() {
        match *event {
            Event::Ask if server.secret().is_some() => ask(&server),
            Event::Delete => server.put(None),
            Event::Restart(which) => {
                let other = &replicas[1 - which];
                // Of two that are away at once nobody is left to be asked.
                if cut_off == [0, 0] && other.keeper.held.is_some() {
                    replicas[which] = Replica::new(&server);
                    replicas[which].keeper.lifetimes = SHORT;
                    replicas[which].keeper.look(now).await.unwrap();
                }
            }
            Event::CutOff(which, rounds) => cut_off[which] = rounds,
            Event::Registered(which) if cut_off[which] == 0 => {
                server.publish(&replicas[which].trust());
            }
            Event::Nothing | Event::Ask | Event::Registered(_) => {}
        }
        now += PERIOD;
        server.tell(now);
        advance(PERIOD).await;
        for (which, replica) in replicas.iter_mut().enumerate() {
            if cut_off[which] > 0 {
                cut_off[which] -= 1;
                server.go_down();
                replica.keeper.look(now).await.unwrap_err();
                server.come_back();
            } else {
                replica.keeper.look(now).await.unwrap();
            }
            assert!(
                replica.is_trusted(&server, now),
                "replica {which} in round {round} after {event:?}"
            );
        }
    }
}

//! The contract holds: what one side writes the other reads, and what is wrong is named.

use proptest::prelude::*;

use super::*;

/// The document that fixes the field names.
const FULL: &str = r#"
{"listen": "[::]:8080", "app": "10.0.0.7:8081", "admin": "[::]:15981", "protocol": "http",
 "checks": [{"name": "db", "postgres": {"urlFrom": {"env": "DATABASE_URL"}}, "period": "1s", "timeout": "1s", "successThreshold": 1, "failureThreshold": 3},
            {"name": "ready", "http": {"path": "/ready", "port": 8081}}],
 "warmup": {"requests": [{"path": "/catalog"}], "target": {"p95": "50ms"}, "maxP95": "1s", "maxDuration": "60s"},
 "hold": {"maxRequests": 1000, "maxWait": "10s"}, "ramp": {"when": "notWarm", "steps": [4, 16, 64], "duration": "10s", "onFull": "pass"},
 "drain": {"delay": "5s", "deadline": "25s", "streamDeadline": "15s"},
 "checksFailed": {"then": "closed"}, "notWarm": {"after": "120s", "then": "open"}}"#;

const SMALL: &str = r#"{"listen": 8080, "app": 8081, "checks": [{"name": "ready", "http": {}}]}"#;

/// What is put where, and how the refusal begins.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "/hold/maxRequest",
        "5",
        "hold.maxRequest: unknown field `maxRequest`",
    ),
    (
        "/drain/delay",
        "5",
        "drain.delay: expected a duration in quotes",
    ),
    (
        "/drain/delay",
        r#""5""#,
        "drain.delay: \"5\" is not a duration",
    ),
    (
        "/drain/delay",
        r#""30s""#,
        "drain.delay: must not be longer than drain.deadline",
    ),
    (
        "/checks/1",
        r#"{"name": "x"}"#,
        "checks[1]: check \"x\" needs exactly one of http",
    ),
    ("/checks/1/ldap", "{}", "unknown field `ldap`"),
    (
        "/checks/1/tcp",
        r#"{"port": 1}"#,
        "needs exactly one of http",
    ),
    (
        "/checks/1/name",
        r#""db""#,
        "checks[1].name: \"db\" stands twice",
    ),
    (
        "/checks/1/name",
        r#""Ready!""#,
        "checks[1].name: must be 1 to 40 lower case",
    ),
    (
        "/checks/1/timeout",
        r#""2h""#,
        "checks[1].timeout: 2h is not between 1ms and 1m",
    ),
    (
        "/checks/1/failureThreshold",
        "0",
        "checks[1].failureThreshold: 0 is not between",
    ),
    (
        "/checks/1/http/path",
        r#""ready""#,
        "checks[1].http.path: must begin with /",
    ),
    (
        "/checks/1/http/bodyMatches",
        r#""(""#,
        "checks[1].http.bodyMatches: is no regular",
    ),
    (
        "/checks/1/http/status",
        "[600]",
        "checks[1].http.status: must hold status codes",
    ),
    (
        "/checks/1/http/status",
        r#"["x"]"#,
        "is no status code such as 204",
    ),
    (
        "/checks/1/http/caFile",
        r#""/ca""#,
        "checks[1].http.caFile: only an https check",
    ),
    (
        "/checks/1/http/headers",
        r#"{"a b": ""}"#,
        "headers.a b: is no header field",
    ),
    (
        "/warmup/requests/0/method",
        r#""POST""#,
        "warmup.requests[0].safe: must be true",
    ),
    (
        "/warmup/requests/0/port",
        r#""web""#,
        "warmup.requests[0].port: is not the name",
    ),
    (
        "/warmup/requests",
        "[]",
        "warmup.requests: must hold 1 to 100",
    ),
    (
        "/warmup/maxP95",
        r#""5ms""#,
        "warmup.maxP95: must not be below target.p95",
    ),
    (
        "/ramp/steps",
        "[16, 4]",
        "ramp.steps: must hold 1 to 10 rising numbers",
    ),
    (
        "/ramp/onFull",
        r#""drop""#,
        "ramp.onFull: unknown variant `drop`",
    ),
    (
        "/listen",
        r#""localhost""#,
        "listen: \"localhost\" is not an address and port",
    ),
    ("/app", r#""shop""#, "app: \"shop\" is not a host and port"),
    (
        "/ports",
        r#"[{"name": "a", "listen": 1, "app": 2}]"#,
        "ports: give either listen",
    ),
];

fn decode(json: &str) -> Settings {
    Settings::decode(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn refusal(json: &str) -> String {
    Settings::decode(json)
        .expect_err("the document must be refused")
        .to_string()
}

/// The full document with the field at `pointer` set to `value` (added if absent).
fn with(pointer: &str, value: serde_json::Value) -> String {
    let mut document: serde_json::Value = serde_json::from_str(FULL).unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match field.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[field] = value,
    }
    document.to_string()
}

#[test]
fn accepts_the_documented_names_and_reads_back_what_it_writes() {
    let settings = decode(FULL);
    assert_eq!(decode(&settings.encode()), settings);
    assert_eq!(settings.ports()[0].app.to_string(), "10.0.0.7:8081");
    assert_eq!(settings.checks()[0].scope, Scope::Startup);
    assert_eq!(settings.checks()[1].scope, Scope::Always);
    assert_eq!(settings.warmup().unwrap().concurrency, 4);
}

#[test]
fn the_smallest_form_has_the_defaults_that_suit_most_apps() {
    let small = decode(SMALL);
    assert_eq!(small.admin(), Listen::any(15981));
    assert_eq!(*small.hold(), *decode(FULL).hold());
    assert_eq!(*small.ramp(), *decode(FULL).ramp());
    assert_eq!(*small.drain(), *decode(FULL).drain());
    assert_eq!(*small.not_warm(), *decode(FULL).not_warm());
    assert_eq!(small.checks_failed().then, Policy::Closed);
    assert!(small.warmup().is_none());
}

#[test]
fn several_ports_share_one_document() {
    let settings = decode(
        r#"{"ports": [
            {"name": "web", "listen": 8080, "app": {"hostFrom": {"env": "POD_IPS"}, "port": 8081}},
            {"name": "db", "listen": 5432, "app": "db:5432", "protocol": "tcp"}]}"#,
    );
    assert_eq!(settings.ports()[1].protocol, Protocol::Tcp);
    assert_eq!(settings.ports()[0].app.host, AppHost::Env("POD_IPS".into()));
    assert_eq!(decode(&settings.encode()), settings);
}

#[test]
fn every_kind_of_check_is_read_back() {
    for kind in [
        r#""http": {"path": "/ready", "headers": {"Host": "shop"}, "status": [204, "200-299"], "bodyMatches": "\"UP\""}"#,
        r#""https": {"path": "/ready", "port": 8443, "caFile": "/etc/ca.crt"}"#,
        r#""tcp": {"host": "queue", "port": 5672}"#,
        r#""dns": {"name": "shop-db"}"#,
        r#""grpc": {"service": "shop.Catalog"}"#,
        r#""file": {"path": "/etc/tls/tls.crt"}"#,
        r#""env": {"name": "API_KEY"}"#,
        r#""postgres": {"urlFrom": {"file": "/run/secrets/url"}, "tls": "verify-full"}"#,
        r#""redis": {"urlFrom": {"env": "REDIS_URL"}, "tls": "require", "caFile": "/etc/ca.crt"}"#,
    ] {
        let json = format!(r#"{{"listen": 1, "app": 2, "checks": [{{"name": "it", {kind}}}]}}"#);
        let settings = decode(&json);
        let check = &settings.checks()[0];
        assert!(
            kind.contains(&format!("\"{}\"", check.kind.name())),
            "{kind}"
        );
        assert_eq!(decode(&settings.encode()), settings, "{kind}");
    }
}

#[test]
fn only_a_check_of_the_apps_own_host_recloses_by_default() {
    for (kind, scope) in [
        (r#""http": {}"#, Scope::Always),
        (r#""grpc": {}"#, Scope::Always),
        (r#""tcp": {"port": 9000}"#, Scope::Always),
        (r#""http": {"host": "auth"}"#, Scope::Startup),
        (r#""tcp": {"host": "queue", "port": 5672}"#, Scope::Startup),
        (r#""dns": {"name": "shop-db"}"#, Scope::Startup),
        (r#""env": {"name": "API_KEY"}"#, Scope::Startup),
        (
            r#""env": {"name": "API_KEY"}, "scope": "always""#,
            Scope::Always,
        ),
    ] {
        let json = format!(r#"{{"listen": 1, "app": 2, "checks": [{{"name": "it", {kind}}}]}}"#);
        assert_eq!(decode(&json).checks()[0].scope, scope, "{kind}");
    }
}

#[test]
fn rejects_what_is_wrong_by_the_name_of_its_field() {
    for (pointer, value, expected) in WRONG {
        let said = refusal(&with(pointer, serde_json::from_str(value).unwrap()));
        assert!(said.contains(expected), "{pointer} = {value}: {said}");
    }
}

#[test]
fn rejects_what_is_not_json_with_the_place() {
    assert!(refusal("{\"listen\": 80,").contains("line 1 column 14"));
    assert!(refusal("nonsense").contains("line 1 column"));
    assert!(refusal(&format!("{SMALL} {{}}")).contains("trailing characters"));
    assert!(refusal("{}").contains("ports: give either listen and app"));
}

#[test]
fn names_every_problem_at_once() {
    let said = refusal(&with(
        "/hold",
        serde_json::json!({"maxRequests": 0, "maxWait": "0s"}),
    ));
    assert!(said.contains("hold.maxRequests"), "{said}");
    assert!(said.contains("hold.maxWait"), "{said}");
}

#[test]
fn the_schema_names_each_field_of_the_documented_form() {
    let schema = serde_json::to_value(Settings::schema()).unwrap();
    let document: serde_json::Value = serde_json::from_str(FULL).unwrap();
    for field in document.as_object().unwrap().keys() {
        assert!(schema["properties"].get(field).is_some(), "{field}");
    }
    let check = &schema["$defs"]["Check"]["properties"];
    for kind in [
        "http", "https", "tcp", "dns", "grpc", "file", "env", "postgres", "redis",
    ] {
        assert!(check.get(kind).is_some(), "{kind}: {schema:#}");
    }
}

proptest! {
    #[test]
    fn any_valid_settings_are_read_back_the_same(
        listen in 1u16..,
        app in prop_oneof![
            (1u16..).prop_map(AppAddress::loopback),
            ("[a-z]{1,8}", 1u16..).prop_map(|(host, port)| AppAddress { host: AppHost::Named(host), port }),
            ("[A-Z]{1,8}", 1u16..).prop_map(|(name, port)| AppAddress { host: AppHost::Env(name), port }),
        ],
        millis in 1u64..1_000_000,
        requests in 1u32..1_000_000,
        steps in prop::collection::btree_set(1u32..1000, 1..10),
        policy in prop_oneof![Just("open"), Just("closed"), Just("restart")],
        full in any::<bool>(),
    ) {
        let document = serde_json::json!({
            "listen": listen,
            "app": app,
            "hold": {"maxWait": format!("{millis}ms"), "maxRequests": requests},
            "ramp": {"steps": steps, "onFull": if full { "refuse" } else { "pass" }},
            "notWarm": {"after": format!("{millis}ms"), "then": policy},
        });
        let settings = decode(&document.to_string());
        prop_assert_eq!(&settings.ports()[0].app, &app);
        prop_assert_eq!(settings.hold().max_wait.as_millis(), u128::from(millis));
        prop_assert_eq!(decode(&settings.encode()), settings);
    }

    #[test]
    fn no_input_makes_decoding_panic(json in "\\PC*") {
        let _ = Settings::decode(&json);
    }
}

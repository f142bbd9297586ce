//! Settings. A flag beats the environment, the environment a file, a file the default; a setting that
//! is unknown or wrong is refused with its source and what was expected.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use clap::{CommandFactory as _, Parser as _};
use pithead_node::config::{Config, ConfigError, NetworkName, NodeCli};
use pithead_node::logging::LogFormat;

type Loaded = Result<(Config, String), ConfigError>;

/// The configuration of these flags and this environment, on a data directory.
fn load(flags: &[&str], env: &[(&str, &str)]) -> Loaded {
    let mut all = vec!["pithead-node", "--data-dir", "/data"];
    all.extend(flags);
    let env = env.iter().map(|(name, value)| (name.into(), value.into()));
    Config::load_from(&NodeCli::try_parse_from(all).unwrap(), env)
}

/// The same with a configuration file of this text.
fn load_file(text: &str, flags: &[&str], env: &[(&str, &str)]) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    let mut all = vec!["--config", path.to_str().unwrap()];
    all.extend(flags);
    load(&all, env)
}

/// The error of a configuration that has to be refused.
fn refusal(loaded: Loaded) -> String {
    loaded.unwrap_err().to_string()
}

#[track_caller]
fn assert_says(loaded: Loaded, parts: &[&str]) {
    let said = refusal(loaded);
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

/// Whether a printed configuration has these lines, each with its source.
#[track_caller]
pub(crate) fn assert_has_lines(printed: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            printed.lines().any(|found| found == *line),
            "{line}: {printed}"
        );
    }
}

#[test]
fn flags_beat_environment_beats_file_beats_default() {
    let file = "rpc_burst = 1\nrpc_max_streams = 1\nrpc_max_connections = 1\n";
    let env = [
        ("PITHEAD_NODE_RPC_BURST", "2"),
        ("PITHEAD_NODE_RPC_MAX_STREAMS", "2"),
    ];
    let (config, printed) = load_file(file, &["--rpc-burst", "3"], &env).unwrap();
    assert_eq!(config.rpc_burst, 3);
    assert_eq!(config.rpc_max_streams, 2);
    assert_eq!(config.rpc_max_connections, 1);
    assert_eq!(config.rpc_drain_secs, 5);
    assert_has_lines(
        &printed,
        &[
            "data_dir = \"/data\" # flag",
            "rpc_burst = 3 # flag",
            "rpc_max_streams = 2 # environment",
            "rpc_max_connections = 1 # file",
            "rpc_drain_secs = 5 # default",
        ],
    );
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let (config, _) = load(&[], &[]).unwrap();
    let expected = Config {
        network: NetworkName::Main,
        genesis: None,
        data_dir: "/data".into(),
        rpc_listen: "127.0.0.1:7310".parse().unwrap(),
        rpc_allow_insecure: false,
        rpc_requests_per_minute: 1_000,
        rpc_burst: 100,
        rpc_max_connections: 1_024,
        rpc_max_connections_per_ip: 32,
        rpc_max_streams: 32,
        rpc_drain_secs: 5,
        mine_token_file: "/data/mine.token".into(),
        admin_token_file: "/data/admin.token".into(),
        mine_without_token: false,
        listen: [
            "/ip4/0.0.0.0/tcp/7311",
            "/ip4/0.0.0.0/udp/7311/quic-v1",
            "/ip6/::/tcp/7311",
            "/ip6/::/udp/7311/quic-v1",
        ]
        .map(|address| address.parse().unwrap())
        .to_vec(),
        bootnode: Vec::new(),
        external_address: Vec::new(),
        max_peers: 74,
        offline: false,
        mdns: true,
        upnp: true,
        relay: true,
        validator_key: None,
        validator_passphrase_file: None,
        minimum_chain_work: "0".parse().unwrap(),
        min_relay_fee_rate: 1,
        mempool_bytes_max: 67_108_864,
        mempool_expiry_secs: 259_200,
        store_cache_bytes: 67_108_864,
        template_refresh_secs: 30,
        share_interval_ms: 5_000,
        log_format: LogFormat::Human,
        log_filter: "info".to_owned(),
        ready_file: None,
    };
    assert_eq!(config, expected);
}

/// Every setting with a value that differs from its default. A new setting needs one here.
const VALUES: [(&str, &str); 33] = [
    ("network", "test"),
    ("data_dir", "/elsewhere"),
    ("rpc_listen", "10.0.0.1:1"),
    ("rpc_allow_insecure", "true"),
    ("rpc_requests_per_minute", "7"),
    ("rpc_burst", "7"),
    ("rpc_max_connections", "7"),
    ("rpc_max_connections_per_ip", "7"),
    ("rpc_max_streams", "7"),
    ("rpc_drain_secs", "7"),
    ("mine_token_file", "/m"),
    ("admin_token_file", "/a"),
    ("mine_without_token", "false"),
    ("listen", "/ip4/192.0.2.1/tcp/1"),
    ("bootnode", "/dns/node.example.org/tcp/1"),
    ("external_address", "/ip4/192.0.2.1/tcp/2"),
    ("max_peers", "7"),
    ("offline", "true"),
    ("mdns", "false"),
    ("upnp", "false"),
    ("relay", "false"),
    ("validator_key", "/v.pem"),
    ("validator_passphrase_file", "/p"),
    ("minimum_chain_work", "1f"),
    ("min_relay_fee_rate", "7"),
    ("mempool_bytes_max", "7000000"),
    ("mempool_expiry_secs", "7"),
    ("store_cache_bytes", "7000000"),
    ("template_refresh_secs", "7"),
    ("share_interval_ms", "70"),
    ("log_format", "json"),
    ("log_filter", "debug"),
    ("ready_file", "/r"),
];

/// Flags that are about the run, not about the node; and genesis, which excludes network
/// and has a test of its own.
const OTHER_FLAGS: [&str; 8] = [
    "config",
    "verify",
    "scratch",
    "init_vote_record",
    "stop_on_stdin_close",
    "genesis",
    "help",
    "version",
];

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key() {
    for argument in NodeCli::command().get_arguments() {
        let id = argument.get_id().as_str();
        let known = VALUES.iter().any(|(key, _)| *key == id);
        assert!(
            known || OTHER_FLAGS.contains(&id),
            "{id} is in neither list"
        );
    }

    let variables: Vec<_> = VALUES
        .iter()
        .map(|(key, value)| (format!("PITHEAD_NODE_{}", key.to_uppercase()), *value))
        .collect();
    let env = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    let cli = NodeCli::try_parse_from(["pithead-node"]).unwrap();
    let (from_env, printed) = Config::load_from(&cli, env).unwrap();
    for (key, _) in VALUES {
        let line = printed
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")));
        assert!(line.unwrap().ends_with("# environment"), "{printed}");
    }
    assert_eq!(from_env.ready_file, Some(PathBuf::from("/r")));

    let mut flags = vec!["pithead-node".to_owned()];
    for (key, value) in VALUES {
        flags.push(format!("--{}={value}", key.replace('_', "-")));
    }
    let cli = NodeCli::try_parse_from(flags).unwrap();
    let (from_flags, _) = Config::load_from(&cli, []).unwrap();
    assert_eq!(from_flags, from_env);

    // The printed configuration is a file with the same settings.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("printed.toml");
    std::fs::write(&path, &printed).unwrap();
    let cli =
        NodeCli::try_parse_from(["pithead-node", "--config", path.to_str().unwrap()]).unwrap();
    let (from_file, again) = Config::load_from(&cli, []).unwrap();
    assert_eq!(from_file, from_env);
    assert_eq!(again, printed.replace("# environment", "# file"));
}

#[test]
fn a_genesis_file_is_printed_instead_of_the_network() {
    let (config, printed) = load(&["--genesis", "/g.toml"], &[]).unwrap();
    assert_eq!(config.genesis, Some(PathBuf::from("/g.toml")));
    assert!(
        printed.contains("genesis = \"/g.toml\" # flag"),
        "{printed}"
    );
    assert!(!printed.contains("network ="), "{printed}");
    assert_eq!(load_file(&printed, &[], &[]).unwrap().0, config);
}

#[test]
fn network_and_genesis_exclude_each_other_whatever_gave_them() {
    let both = load(&["--network", "dev", "--genesis", "g.toml"], &[]);
    assert_says(both, &["exclude each other", "--network", "--genesis"]);
    let apart = load_file(
        "genesis = \"g.toml\"",
        &[],
        &[("PITHEAD_NODE_NETWORK", "dev")],
    );
    assert_says(
        apart,
        &["exclude each other", "PITHEAD_NODE_NETWORK", "node.toml"],
    );
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    let cli = NodeCli::try_parse_from(["pithead-node"]).unwrap();
    let env = [
        ("PITHEAD_NODE_DATA_DIR", "5"),
        ("PITHEAD_NODE_READY_FILE", "true"),
        ("PITHEAD_NODE_MINE_TOKEN_FILE", "-1"),
    ];
    let env = env.map(|(name, value)| (name.into(), value.into()));
    let (config, _) = Config::load_from(&cli, env).unwrap();
    assert_eq!(config.data_dir, Path::new("5"));
    assert_eq!(config.ready_file, Some(PathBuf::from("true")));
    assert_eq!(config.mine_token_file, Path::new("-1"));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let env = [
        ("PITHEAD_NODE_RPC_BURST", ""),
        ("PITHEAD_NODE_READY_FILE", ""),
    ];
    let (config, printed) = load(&[], &env).unwrap();
    assert_eq!(config.rpc_burst, 100);
    assert_eq!(config.ready_file, None);
    assert!(!printed.contains("# environment"), "{printed}");
}

#[test]
fn an_empty_variable_names_no_file() {
    let env = [("HOME", "/h"), ("PITHEAD_NODE_CONFIG", "")];
    let output = program(&env, &["config"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let env = [("HOME", "/h"), ("PITHEAD_NODE_CONFIG", "/nonexistent.toml")];
    let said = program(&env, &["config"]).stderr;
    assert!(String::from_utf8_lossy(&said).contains("/nonexistent.toml"));
}

#[test]
fn variables_that_are_not_text_are_refused_only_if_they_are_ours() {
    let not_text = || OsString::from_vec(vec![0xff, 0xfe]);
    let cli = NodeCli::try_parse_from(["pithead-node", "--data-dir", "/data"]).unwrap();
    let foreign = [
        ("OTHER".into(), not_text()),
        (not_text(), "value".into()),
        ("PITHEAD_NODE".into(), "http://127.0.0.1:7310".into()),
    ];
    assert!(Config::load_from(&cli, foreign).is_ok());
    let ours = [("PITHEAD_NODE_LOG_FILTER".into(), not_text())];
    assert_says(
        Config::load_from(&cli, ours),
        &["PITHEAD_NODE_LOG_FILTER", "UTF-8"],
    );
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_ones() {
    for (found, meant) in [
        ("rpc_brust", "rpc_burst"),
        ("rpc-burst", "rpc_burst"),
        ("datadir", "data_dir"),
        ("logformat", "log_format"),
        ("newtork", "network"),
        ("mempool_bytes", "mempool_bytes_max"),
        ("token_file", "mine_token_file or admin_token_file"),
    ] {
        let said = refusal(load_file(&format!("{found} = 1"), &[], &[]));
        assert!(
            said.contains(&format!("there is no setting {found:?}")),
            "{said}"
        );
        assert!(said.contains(&format!("did you mean {meant}")), "{said}");
        assert!(said.contains("node.toml"), "{said}");
    }
    let said = refusal(load_file("xyzzy = 1", &[], &[]));
    assert!(!said.contains("did you mean"), "{said}");
    let said = refusal(load(&[], &[("PITHEAD_NODE_RPC_BRUST", "5")]));
    assert!(
        said.contains("PITHEAD_NODE_RPC_BRUST") && said.contains("rpc_burst"),
        "{said}"
    );
    // A table is a key, too.
    assert_says(load_file("[rpc]\nburst = 5", &[], &[]), &["\"rpc\""]);
    // The message is short, even if the key is long.
    let long = refusal(load_file(&format!("{} = 1", "k".repeat(100_000)), &[], &[]));
    assert!(long.len() < 400, "{} bytes", long.len());
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_their_source() {
    let of_env = |name: &str, value: &str| load(&[], &[(name, value)]);
    assert_says(
        of_env("PITHEAD_NODE_RPC_BURST", "many"),
        &["PITHEAD_NODE_RPC_BURST", "rpc_burst is \"many\"", "u32"],
    );
    assert_says(
        of_env("PITHEAD_NODE_RPC_BURST", "-1"),
        &["PITHEAD_NODE_RPC_BURST", "-1"],
    );
    assert_says(
        of_env("PITHEAD_NODE_NETWORK", "moon"),
        &["PITHEAD_NODE_NETWORK", "moon", "main", "test", "dev"],
    );
    assert_says(
        of_env("PITHEAD_NODE_MINE_WITHOUT_TOKEN", "yes"),
        &["PITHEAD_NODE_MINE_WITHOUT_TOKEN", "boolean"],
    );
    assert_says(
        load_file("rpc_listen = \"localhost\"", &[], &[]),
        &["node.toml", "rpc_listen is \"localhost\"", "socket address"],
    );
    assert_says(
        load_file("rpc_burst = 1.5", &[], &[]),
        &["node.toml", "rpc_burst is 1.5"],
    );
    assert_says(
        load_file("rpc_burst = = 1", &[], &[]),
        &["node.toml", "line 1"],
    );
    assert_says(
        load(&["--config", "/nonexistent/node.toml"], &[]),
        &["/nonexistent/node.toml"],
    );
}

#[test]
fn work_is_hex() {
    let work = |text: &str| load_file(&format!("minimum_chain_work = \"{text}\""), &[], &[]);
    let full = format!("{:0>64}", "1f");
    for same in ["1f", "0x1F", &full] {
        let (config, _) = work(same).unwrap();
        assert_eq!(config.minimum_chain_work.to_string(), full);
    }
    for wrong in ["", "0x", "1g", "-1", &format!("1{full}")] {
        assert_says(work(wrong), &["minimum_chain_work", "hex digits"]);
    }
}

#[test]
fn values_out_of_range_are_refused_with_the_bound() {
    for (key, found, bound) in [
        ("rpc_burst", "0", "at least 1 expected"),
        ("rpc_burst", "4294967295", "at most 1000000 expected"),
        ("rpc_max_connections", "0", "at least 1 expected"),
        ("rpc_max_connections_per_ip", "0", "at least 1 expected"),
        ("rpc_max_streams", "0", "at least 1 expected"),
        ("rpc_drain_secs", "3601", "at most 3600 expected"),
        (
            "min_relay_fee_rate",
            "1000000001",
            "at most 1000000000 expected",
        ),
        ("mempool_bytes_max", "99999", "at least 100000 expected"),
        ("mempool_expiry_secs", "0", "at least 1 expected"),
        ("mempool_expiry_secs", "9223372036854775807", "at most"),
        ("store_cache_bytes", "1", "at least 1048576 expected"),
        ("template_refresh_secs", "0", "at least 1 expected"),
        ("share_interval_ms", "9", "at least 10 expected"),
        ("log_filter", "pithead=nonsense", "a filter such as"),
    ] {
        let flag = format!("--{}={found}", key.replace('_', "-"));
        assert_says(
            load(&[&flag], &[]),
            &[&format!("{key} is "), found, bound, "(flag --"],
        );
    }
    assert_says(
        load_file("rpc_burst = 0", &[], &[]),
        &["rpc_burst is 0, at least 1 expected", "node.toml"],
    );
    assert_says(
        load_file("ready_file = \"\"", &[], &[]),
        &["ready_file is empty, a path expected", "node.toml"],
    );
    // More than TOML can hold is refused, too.
    assert!(load(&["--mempool-expiry-secs", "18446744073709551615"], &[]).is_err());
    // 0 means no limit on requests, and is allowed.
    assert!(load(&["--rpc-requests-per-minute", "0"], &[]).is_ok());
}

#[test]
fn plaintext_beyond_loopback_needs_a_flag_that_says_so() {
    for loopback in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:1"] {
        assert!(load(&["--rpc-listen", loopback, "--mine-without-token"], &[]).is_ok());
    }
    for open in [
        "0.0.0.0:1",
        "192.168.0.1:1",
        "[::]:1",
        "[::ffff:10.0.0.1]:1",
    ] {
        let said = refusal(load(&["--rpc-listen", open], &[]));
        assert!(said.contains(open) && said.contains("plaintext"), "{said}");
        assert!(said.contains("--rpc-allow-insecure"), "{said}");
        let forced = ["--rpc-listen", open, "--rpc-allow-insecure"];
        assert!(load(&forced, &[]).is_ok());
        let mining = [&forced[..], &["--mine-without-token"]].concat();
        assert_says(load(&mining, &[]), &["mine_without_token", open]);
    }
}

#[test]
fn one_file_can_not_hold_both_tokens() {
    let flags = ["--mine-token-file", "/t", "--admin-token-file", "/t"];
    assert_says(
        load(&flags, &[]),
        &["mine_token_file", "admin_token_file", "/t"],
    );
}

/// The program with no environment but this.
fn program(env: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pithead-node"))
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_data_directory_is_the_users_and_the_networks() {
    let of = |env: &[(&str, &str)], network: &str| {
        let output = program(env, &["config", "--network", network]);
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let printed = of(&[("HOME", "/h")], "main");
    let line = "data_dir = \"/h/.local/share/pithead/main\" # default";
    assert!(printed.contains(line), "{printed}");
    let line = "admin_token_file = \"/h/.local/share/pithead/main/admin.token\" # default";
    assert!(printed.contains(line), "{printed}");
    let printed = of(&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")], "dev");
    assert!(printed.contains("\"/x/pithead/dev\""), "{printed}");
    let printed = of(&[("HOME", "/h"), ("XDG_DATA_HOME", "")], "dev");
    assert!(
        printed.contains("\"/h/.local/share/pithead/dev\""),
        "{printed}"
    );
    assert!(of(&[], "dev").contains("give --data-dir"));
}

#[test]
fn the_program_says_its_version_and_what_it_refuses() {
    let version = program(&[], &["--version"]);
    assert!(version.status.success());
    let expected = format!("pithead-node {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
    let refused = program(
        &[("HOME", "/h"), ("PITHEAD_NODE_NETWROK", "dev")],
        &["config"],
    );
    assert!(!refused.status.success());
    assert!(refused.stdout.is_empty());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("did you mean network"), "{said}");
}

#[test]
fn lists_are_flags_given_often_or_variables_with_commas() {
    let flags = [
        "--bootnode",
        "192.0.2.1:1",
        "--bootnode",
        "node.example.org:2",
    ];
    let (from_flags, _) = load(&flags, &[]).unwrap();
    let env = [("PITHEAD_NODE_BOOTNODE", "192.0.2.1:1, node.example.org:2")];
    let (from_env, printed) = load(&[], &env).unwrap();
    assert_eq!(from_flags.bootnode.len(), 2);
    assert_eq!(from_flags.bootnode, from_env.bootnode);
    assert!(printed.contains("bootnode = ["), "{printed}");
    let file = "bootnode = [\"192.0.2.1:1\", \"node.example.org:2\"]\n";
    let (from_file, _) = load_file(file, &[], &[]).unwrap();
    assert_eq!(from_file.bootnode, from_env.bootnode);
    let env = [("PITHEAD_NODE_BOOTNODE", "192.0.2.1:1,nonsense")];
    assert_says(load(&[], &env), &["PITHEAD_NODE_BOOTNODE", "nonsense"]);
    assert_says(
        load_file("listen = [7]\n", &[], &[]),
        &["node.toml", "listen"],
    );
}

#[test]
fn a_node_that_listens_on_this_machine_only_looks_nowhere_else() {
    let (local, _) = load(&["--listen", "/ip4/127.0.0.1/tcp/0"], &[]).unwrap();
    assert!(!local.mdns && !local.upnp);
    let flags = ["--listen", "/ip4/127.0.0.1/tcp/0", "--mdns"];
    let (asked, _) = load(&flags, &[]).unwrap();
    assert!(asked.mdns && !asked.upnp);
}

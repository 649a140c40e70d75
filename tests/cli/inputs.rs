//! What can be given to check, and what happens when it can't be read.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use super::{GOOD, check_in, fed, folder, portcullis, program};

#[test]
fn inputs_that_can_not_be_read_are_told_with_their_line_and_the_others_are_judged() {
    let said = portcullis(&["check", "broken", "missing.yaml"]);
    assert_eq!(said.status, 2);
    let problems: Vec<_> = said.err.lines().collect();
    assert_eq!(problems.len(), 3, "{}", said.err);
    assert!(
        problems[0].starts_with("broken/tabs.yaml:4:"),
        "{}",
        said.err
    );
    assert!(
        problems[1].contains("broken/template.yaml:"),
        "{}",
        said.err
    );
    assert!(
        problems[1].contains("helm template . | portcullis check -"),
        "{}",
        said.err
    );
    assert_eq!(
        problems[2],
        "missing.yaml: can't be read: no such file or directory"
    );
    assert!(
        said.out
            .contains("Deployment shop/checkout  broken/good.yaml:2"),
        "{}",
        said.out
    );
    assert!(
        said.out.ends_with("; 3 could not be read\n"),
        "{}",
        said.out
    );
}

#[test]
fn standard_input_is_read_with_and_without_a_dash() {
    for args in [&["check", "-"][..], &["check"]] {
        let said = fed(args, GOOD.replace("memory: 256Mi", "").as_bytes());
        assert_eq!(said.status, 1, "{}", said.err);
        assert!(
            said.out.contains("Deployment shop/catalog  stdin:2"),
            "{}",
            said.out
        );
    }
    let said = fed(&["check", "-"], b"");
    assert_eq!(
        (said.status, said.out.as_str()),
        (0, "0 objects judged: 0 denied, 0 warned, 0 passed\n")
    );
}

#[test]
fn a_reader_that_leaves_is_no_error_and_hides_no_denial() {
    let mut program = program();
    program
        .args(["check", "-o", "json", "shop"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = program.stdin(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn folders_are_searched_by_extension_without_hidden_files_and_loops() {
    let folder = folder(&[
        ("b.yml", GOOD.as_bytes()),
        ("a/deep/c.yaml", GOOD.as_bytes()),
        ("README.md", b"apiVersion: ["),
        (".git/x.yaml", b"["),
        ("empty.yaml", b""),
        ("comments.yaml", b"# nothing\n---\n# at all\n"),
        ("Chart.yaml", b"apiVersion: v2\nname: shop\n"),
    ]);
    symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    symlink("b.yml", folder.path().join("linked.yaml")).unwrap();
    let said = check_in(&folder, &["."]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "3 objects judged: 0 denied, 0 warned, 3 passed; 4 without pods skipped\n"
    );
}

#[test]
fn a_link_to_nowhere_and_a_binary_file_are_problems_of_their_own() {
    let folder = folder(&[
        ("binary.yaml", b"\x7fELF\x00\x01"),
        ("bytes.yaml", b"a: \xff"),
        ("good.yaml", GOOD.as_bytes()),
    ]);
    symlink("nowhere", folder.path().join("link.yaml")).unwrap();
    let said = check_in(&folder, &["."]);
    assert_eq!(said.status, 2);
    let expected = "\
./binary.yaml:1:1: control character U+007F: is this a binary file?
./bytes.yaml:1:4: not UTF-8 text: is this a binary file?
./link.yaml: can't be read: no such file or directory
";
    assert_eq!(said.err, expected);
    assert!(said.out.starts_with("1 object judged"), "{}", said.out);
}

#[test]
fn an_explicit_file_without_a_kubernetes_object_is_a_problem() {
    let folder = folder(&[("values.txt", b"# values\nreplicas: 3\n")]);
    let said = check_in(&folder, &["values.txt"]);
    assert_eq!(said.status, 2);
    assert_eq!(
        said.err,
        "values.txt:2:1: not a Kubernetes object: it has no apiVersion and kind\n"
    );
    assert_eq!(
        check_in(&folder, &["."]).status,
        0,
        "its extension is none of a manifest's"
    );
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_read() {
    let windows = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    let folder = folder(&[("good.yaml", windows.as_bytes())]);
    let said = check_in(&folder, &["good.yaml"]);
    assert_eq!((said.status, said.err.as_str()), (0, ""), "{}", said.out);
}

#[test]
fn huge_inputs_are_judged_object_by_object() {
    let many = vec![GOOD; 2_000].join("---\n");
    let said = fed(&["check", "-"], many.as_bytes());
    assert_eq!(
        said.out,
        "2000 objects judged: 0 denied, 0 warned, 2000 passed; 2000 without pods skipped\n"
    );
    let mut laughs = vec!["a: &a [x,x,x,x,x,x,x,x,x,x]".to_owned()];
    for (before, letter) in ('a'..='y').zip('b'..='z') {
        laughs.push(format!(
            "{letter}: &{letter} [{}]",
            vec![format!("*{before}"); 10].join(",")
        ));
    }
    let laughs = laughs.join("\n");
    let said = fed(&["check", "-"], laughs.as_bytes());
    assert_eq!(said.status, 2);
    assert!(
        said.err
            .contains("too much of this document comes from aliases"),
        "{}",
        said.err
    );
}

#[test]
fn a_folder_that_can_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder(&[
        ("closed/a.yaml", GOOD.as_bytes()),
        ("good.yaml", GOOD.as_bytes()),
    ]);
    let closed = folder.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let said = check_in(&folder, &["."]);
    let open = fs::read_dir(&closed).is_ok(); // root may read all
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    if !open {
        assert_eq!(said.status, 2);
        assert_eq!(said.err, "./closed: can't be read: permission denied\n");
    }
    assert!(said.out.contains("judged"), "{}", said.out);
}

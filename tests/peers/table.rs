//! Who judges what rightly, as a table.

use super::{
    case::{Case, Verdict},
    cluster::{Cluster, Judge, POLICY, PORTCULLIS},
    files,
};

/// What one judge says of all cases, in their order.
struct Column {
    name: String,
    verdicts: Result<Vec<Verdict>, String>,
}

/// Asks all judges, and prints how many cases of each group they judge rightly, and every case that one does not.
pub fn print(cases: &[Case]) {
    let cluster = Cluster::start();
    let of_cluster = |name: &str, judge: &Judge| Column {
        name: name.to_owned(),
        verdicts: Ok((cases.iter().enumerate())
            .map(|(number, case)| cluster.judge(judge, number + 1, case))
            .collect()),
    };
    let policy = format!("ValidatingAdmissionPolicy of {}", cluster.version);
    let mut columns = vec![
        of_cluster("Portcullis", &PORTCULLIS),
        of_cluster(&policy, &POLICY),
    ];
    cluster.stop();
    columns.extend(files::ALL.iter().map(|peer| Column {
        name: format!("{} {}", peer.program.name, peer.program.version),
        verdicts: peer.program.path().map(|program| {
            let verdicts = cases.iter().map(|case| peer.judge(&program, case));
            verdicts.collect()
        }),
    }));
    by_group(cases, &columns);
    println!();
    by_case(cases, &columns);
}

fn by_group(cases: &[Case], columns: &[Column]) {
    let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
    println!("| rightly judged | {} |", names.join(" | "));
    println!("| --- |{}", " --- |".repeat(columns.len()));
    let mut groups: Vec<_> = cases.iter().map(|case| &*case.group).collect();
    groups.dedup();
    for group in groups {
        let cells = columns
            .iter()
            .map(|column| column.cell(cases, |case| case.group == group));
        println!("| {group} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let cells = columns.iter().map(|column| column.cell(cases, |_| true));
    println!("| all | {} |", cells.collect::<Vec<_>>().join(" | "));
}

fn by_case(cases: &[Case], columns: &[Column]) {
    for (number, case) in cases.iter().enumerate() {
        for column in columns {
            let Ok(verdicts) = &column.verdicts else {
                continue;
            };
            let verdict = &verdicts[number];
            if *verdict == case.right {
                continue;
            }
            match verdict {
                Verdict::Unable(why) => {
                    println!(
                        "not judged by {}: {}: {} ({why})",
                        column.name, case.group, case.says
                    );
                }
                wrong @ (Verdict::Accept | Verdict::Refuse) => println!(
                    "wrong: {} on {}: {}: {wrong:?}",
                    column.name, case.group, case.says
                ),
            }
        }
    }
    for column in columns {
        if let Err(why) = &column.verdicts {
            println!("{} was not built: {why}", column.name);
        }
    }
}

impl Column {
    /// `2 of 3`, of those cases that are meant.
    fn cell(&self, cases: &[Case], meant: impl Fn(&Case) -> bool) -> String {
        let Ok(verdicts) = &self.verdicts else {
            return "not built".to_owned();
        };
        let of: Vec<_> = cases
            .iter()
            .zip(verdicts)
            .filter(|(case, _)| meant(case))
            .collect();
        let asked = of
            .iter()
            .filter(|(_, verdict)| !matches!(verdict, Verdict::Unable(_)));
        if asked.count() == 0 {
            return "not asked".to_owned();
        }
        let right = of
            .iter()
            .filter(|(case, verdict)| case.right == **verdict)
            .count();
        format!("{right} of {}", of.len())
    }
}

//! What a target costs as scopes, ports and workers grow.

use std::fmt::Write as _;

use crate::{
    cluster::Cluster,
    discovery::Tool,
    figures::Table,
    process,
    rig::{self, Part, Rig},
    verification::Scan,
};

const LENGTHS: [u32; 4] = [20, 18, 16, 14];
const PORTS: [usize; 3] = [1, 4, 12];
const WORKERS: [usize; 3] = [1, 2, 4];
/// What workers share.
const SHARED: Part = Part {
    length: 16,
    ports: 12,
};

/// Processor time of a target in microseconds, beyond what it takes to start and stop.
pub fn scopes(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let one = Part {
        length: 32,
        ports: 1,
    };
    rig.draw(Part {
        length: 14,
        ports: 12,
    })?;
    let start = median(rounds, || Ok(Tool::Ajar.find(rig, one)?.spent.cpu))?;
    let mut table = Table::new(
        "Growth: processor time of a target in a SYN sweep, in microseconds",
        &["targets", "1 port", "4 ports", "12 ports", "MB at 12 ports"],
    );
    let mut lines: Vec<Vec<(u64, f64)>> = PORTS.iter().map(|_| Vec::new()).collect();
    for length in LENGTHS {
        let mut cells = vec![format!("a /{length} x the ports")];
        let mut megabytes = 0.0;
        for (ports, line) in PORTS.into_iter().zip(&mut lines) {
            let part = Part { length, ports };
            let cpu = median(rounds, || {
                let found = Tool::Ajar.find(rig, part)?;
                rig::rest();
                megabytes = found.spent.megabytes;
                Ok(found.spent.cpu)
            })?;
            let each = (cpu - start).max(0.0) * 1e6 / part.pairs() as f64;
            line.push((part.pairs(), each));
            cells.push(format!("{each:.2}"));
        }
        cells.push(format!("{megabytes:.0}"));
        table.row(cells);
    }
    table.note(&format!(
        "to start and stop takes {start:.2} s of processor time, whatever the scope, which is left out here; time is counted by \
         the kernel in hundredths of a second, so that 4,096 targets tell little"
    ));
    table.picture("growth.svg", &plot(&lines));
    Ok(table)
}

/// The same work shared by more and more workers on this machine.
pub fn workers(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let (block, ports) = (SHARED.block(), SHARED.port_list());
    let scan = Scan {
        targets: &[&block],
        ports: &ports,
        options: &["--sweep", "syn", "--retries", "0", "--tier", "connect"],
    };
    let mut table = Table::new(
        "Growth: a cluster's processor time of a target, in microseconds",
        &["workers", "coordinator, workers, canary, Redis, PostgreSQL"],
    );
    for workers in WORKERS {
        let cost = |scan: Option<&Scan<'_>>| -> anyhow::Result<f64> {
            let before = process::children_cpu()?;
            let cluster = Cluster::start(rig, workers, &[])?;
            if let Some(scan) = scan {
                cluster.scan(rig, scan)?;
            }
            cluster.stop();
            rig::rest();
            Ok(process::children_cpu()? - before)
        };
        let cpu = median(rounds, || Ok(cost(Some(&scan))? - cost(None)?))?;
        let each = cpu * 1e6 / SHARED.pairs() as f64;
        table.row([workers.to_string(), format!("{each:.2}")]);
    }
    table.note(&format!(
        "a /{} x {} ports, --tier connect; to start and to stop everything is left out",
        SHARED.length, SHARED.ports
    ));
    Ok(table)
}

fn median(rounds: usize, mut figure: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let figures: anyhow::Result<Vec<f64>> = (0..rounds).map(|_| figure()).collect();
    let mut figures = figures?;
    figures.sort_by(f64::total_cmp);
    Ok(figures[figures.len() / 2])
}

/// One line for each number of ports: microseconds over targets, whose scale is logarithmic.
fn plot(lines: &[Vec<(u64, f64)>]) -> String {
    const COLOURS: [&str; 3] = ["#1b6ca8", "#c4572b", "#3d8b37"];
    let points = || lines.iter().flatten();
    let most = points().map(|(_, each)| *each).fold(1.0, f64::max).ceil();
    let power = |targets: u64| (targets as f64).log2();
    let first = points()
        .map(|(targets, _)| power(*targets))
        .fold(f64::MAX, f64::min);
    let last = points()
        .map(|(targets, _)| power(*targets))
        .fold(0.0, f64::max);
    let x = |targets: u64| 60.0 + 500.0 * (power(targets) - first) / (last - first);
    let y = |each: f64| 220.0 - 190.0 * each / most;
    let mut svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 270\" \
                   font-family=\"sans-serif\" font-size=\"12\">\n\
                   <rect width=\"640\" height=\"270\" fill=\"white\"/>\n"
        .to_owned();
    for tick in 0..=most as u32 {
        let y = y(f64::from(tick));
        let _ = writeln!(
            svg,
            "<path d=\"M60 {y:.0}H560\" stroke=\"#ddd\"/><text x=\"50\" y=\"{:.0}\" text-anchor=\"end\">{tick}</text>",
            y + 4.0
        );
    }
    for (at, line) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let mut path = String::new();
        for (targets, each) in line {
            let (x, y) = (x(*targets), y(*each));
            let _ = write!(
                path,
                "{}{x:.0} {y:.0}",
                if path.is_empty() { 'M' } else { 'L' }
            );
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"570\" y=\"{}\" fill=\"{colour}\">{} port(s)</text>",
            40 + 18 * at,
            PORTS[at]
        );
    }
    for power in [12, 14, 16, 18, 20] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"240\" text-anchor=\"middle\">{}</text>",
            x(1 << power),
            1_u64 << power
        );
    }
    svg.push_str("<text x=\"310\" y=\"260\" text-anchor=\"middle\">targets</text>\n");
    svg.push_str(
        "<text x=\"60\" y=\"18\">microseconds of processor time a target</text>\n</svg>\n",
    );
    svg
}

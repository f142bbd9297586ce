//! Collects what this miner reports to its node: kernel, threads, hash rate, latency to
//! the first hash, and the processor's temperature and power.
//!
//! Linux shows sensors as files. A sensor that is missing, or that holds nonsense, is
//! left out of the report; it is never an error. This file makes no calls.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pithead_api::v1::MinerTelemetry;

use crate::stats::{RateWindow, Stats};

/// The hash rate in a report is the average over this time.
const RATE_WINDOW: Duration = Duration::from_secs(30);
/// Linux drivers whose sensors are in the processor.
const CPU_DRIVERS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];
/// The shortest time between two readings of the energy counters. The counters are
/// updated about once a millisecond, so this keeps the error at one in a hundred.
const POWER_STEP_MIN: Duration = Duration::from_millis(100);

/// Collects the reports of one run.
#[derive(Debug)]
pub struct TelemetryCollector {
    kernel: &'static str,
    threads: u32,
    rate: RateWindow,
    sensors: Sensors,
}

impl TelemetryCollector {
    /// Collects from this machine's sensors.
    #[must_use]
    pub fn new(kernel: &'static str, threads: usize) -> Self {
        Self {
            kernel,
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            rate: RateWindow::new(RATE_WINDOW, Instant::now(), 0),
            sensors: Sensors::new(Path::new("/sys")),
        }
    }

    /// The report for this moment.
    pub fn report(&mut self, stats: &Stats, now: Instant) -> MinerTelemetry {
        let first_hash = stats.first_hash_ms();
        MinerTelemetry {
            kernel: self.kernel.to_owned(),
            threads: self.threads,
            hash_rate: self.rate.rate(now, stats.hashes()),
            first_hash_p50_ms: first_hash.map(|times| times.p50),
            first_hash_p99_ms: first_hash.map(|times| times.p99),
            temperature_celsius: self.sensors.temperature(),
            power_watts: self.sensors.power(now),
        }
    }
}

/// The sensors below a folder laid out as Linux's `/sys`.
#[derive(Debug)]
pub struct Sensors {
    root: PathBuf,
    /// When the energy counters were last read, and their sum in joules.
    energy: Option<(Instant, f64)>,
}

impl Sensors {
    /// The sensors below this folder; `/sys` on a real machine.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            energy: None,
        }
    }

    /// The highest temperature of the processor, in degrees Celsius.
    #[must_use]
    pub fn temperature(&self) -> Option<f64> {
        let monitors = entries(&self.root.join("class/hwmon"));
        let drivers = monitors.iter().filter(|folder| {
            let name = read(&folder.join("name"));
            name.is_some_and(|name| CPU_DRIVERS.contains(&name.as_str()))
        });
        let inputs = drivers
            .flat_map(|folder| entries(folder))
            .filter(|file| is_named(file, "temp", "_input"));
        let zones = entries(&self.root.join("class/thermal"));
        let zones = zones.iter().filter(|folder| {
            let kind = read(&folder.join("type"));
            kind.is_some_and(|kind| kind.contains("pkg_temp") || kind.contains("cpu"))
        });
        inputs
            .chain(zones.map(|folder| folder.join("temp")))
            .filter_map(|file| Some(number(&file)? / 1_000.0))
            // A value out of this range is that of a sensor that is not connected.
            .filter(|celsius| (-50.0..200.0).contains(celsius))
            .reduce(f64::max)
    }

    /// The power that the processor drew since the previous call, in watts.
    pub fn power(&mut self, now: Instant) -> Option<f64> {
        let joules = self.joules()?;
        let (before, joules_before) = *self.energy.get_or_insert((now, joules));
        let elapsed = now.saturating_duration_since(before);
        if elapsed < POWER_STEP_MIN {
            return None;
        }
        self.energy = Some((now, joules));
        // A counter that overflowed starts at 0; the negative power is left out.
        let watts = (joules - joules_before) / elapsed.as_secs_f64();
        (watts >= 0.0).then_some(watts)
    }

    /// The energy counters of all packages together, in joules.
    fn joules(&self) -> Option<f64> {
        entries(&self.root.join("class/powercap"))
            .iter()
            // Of these three, only the first counts: intel-rapl:0 is a package,
            // intel-rapl:0:0 is a part of it, and intel-rapl-mmio:0 is the same package
            // through another interface.
            .filter(|folder| {
                let name = folder.file_name().and_then(|name| name.to_str());
                let number = name.and_then(|name| name.strip_prefix("intel-rapl:"));
                number.is_some_and(|number| number.parse::<u32>().is_ok())
            })
            // The domain psys is the whole platform, which includes the packages.
            .filter(|folder| {
                let name = read(&folder.join("name"));
                name.is_some_and(|name| name.starts_with("package-"))
            })
            .filter_map(|folder| Some(number(&folder.join("energy_uj"))? * 1e-6))
            .reduce(|a, b| a + b)
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn is_named(file: &Path, start: &str, end: &str) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(start) && name.ends_with(end))
}

fn read(file: &Path) -> Option<String> {
    Some(std::fs::read_to_string(file).ok()?.trim().to_owned())
}

fn number(file: &Path) -> Option<f64> {
    read(file)?
        .parse()
        .ok()
        .filter(|found: &f64| found.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_hottest_sensor_of_the_processor_counts() {
        let root = tempfile::tempdir().unwrap();
        let sensors = Sensors::new(root.path());
        assert_eq!(sensors.temperature(), None);
        write(root.path(), "class/hwmon/hwmon0/name", "nvme\n");
        write(root.path(), "class/hwmon/hwmon0/temp1_input", "99000\n");
        assert_eq!(sensors.temperature(), None);
        write(root.path(), "class/hwmon/hwmon1/name", "coretemp\n");
        write(root.path(), "class/hwmon/hwmon1/temp1_input", "61000\n");
        write(root.path(), "class/hwmon/hwmon1/temp2_input", "64500\n");
        write(root.path(), "class/hwmon/hwmon1/temp3_input", "-273000\n");
        write(root.path(), "class/hwmon/hwmon1/temp4_input", "broken\n");
        write(root.path(), "class/hwmon/hwmon1/temp2_max", "100000\n");
        write(
            root.path(),
            "class/thermal/thermal_zone0/type",
            "x86_pkg_temp",
        );
        write(root.path(), "class/thermal/thermal_zone0/temp", "62000");
        assert_eq!(sensors.temperature(), Some(64.5));
    }

    #[test]
    fn power_is_energy_of_all_packages_by_time() {
        let root = tempfile::tempdir().unwrap();
        let mut sensors = Sensors::new(root.path());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(sensors.power(start), None);
        let domain = |folder: &str, name: &str, energy: &str| {
            let folder = format!("class/powercap/{folder}");
            write(root.path(), &format!("{folder}/name"), name);
            write(root.path(), &format!("{folder}/energy_uj"), energy);
        };
        let packages = |first: &str, second: &str| {
            domain("intel-rapl:0", "package-0\n", first);
            domain("intel-rapl:1", "package-1\n", second);
            // These three must not count: a part of the first package, the first package
            // through another interface, and the platform, which includes both.
            domain("intel-rapl:0:0", "core\n", first);
            domain("intel-rapl-mmio:0", "package-0\n", first);
            domain("intel-rapl:2", "psys\n", first);
        };
        packages("1000000", "500000");
        assert_eq!(sensors.power(at(1)), None);
        packages("101000000", "20500000");
        assert_eq!(sensors.power(at(3)), Some(60.0));
        // The counter has overflowed.
        packages("0", "0");
        assert_eq!(sensors.power(at(4)), None);
        packages("65000000", "0");
        assert_eq!(sensors.power(at(5)), Some(65.0));
    }

    #[test]
    fn a_report_has_what_is_known_and_no_more() {
        let stats = Stats::new(1);
        let mut telemetry = TelemetryCollector::new("portable", 3);
        telemetry.sensors = Sensors::new(Path::new("/nonexistent"));
        let report = telemetry.report(&stats, Instant::now());
        assert_eq!((report.kernel.as_str(), report.threads), ("portable", 3));
        assert_eq!(report.first_hash_p99_ms, None);
        assert_eq!(
            (report.temperature_celsius, report.power_watts),
            (None, None)
        );
        for ms in 1..=100 {
            stats.count_work(Some(ms * 1_000), None);
        }
        let report = telemetry.report(&stats, Instant::now());
        assert_eq!(report.first_hash_p50_ms, Some(50.0));
        assert_eq!(report.first_hash_p99_ms, Some(99.0));
    }
}

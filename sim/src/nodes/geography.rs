//! Where nodes are, and how long a message takes between two of them.
//!
//! Latency is the distance over the speed of light in fibre (two thirds of that in a
//! vacuum, about 200 km/ms), times 2.1, plus the first and the last mile. The factor is
//! the rule of thumb of measurement campaigns for how much longer real routes are than
//! the straight line (Bozkurt et al., "Dissecting Latency in the Internet's Fiber
//! Infrastructure", arXiv:1811.10737). The delay of a single message varies
//! log-normally about that.
//!
//! A line's rate limits how fast a node sends. Some nodes are in data centres; the
//! others are on home lines, whose rates vary log-normally.
//!
//! This file knows no nodes and no messages. Start reading at [`NodeLocation`].

use crate::rng::SimRng;

/// Speed of light in fibre, kilometres a millisecond.
const FIBRE_KM_PER_MS: f64 = 200.0;
/// How much longer a message takes than through straight fibre (see above).
const DETOUR: f64 = 2.1;
/// Delay of the first and the last mile together, milliseconds: one or two routers at
/// each end and, for two nodes in five, a home line.
const ACCESS_MS: f64 = 8.0;
/// Spread of the delays on one connection: the sigma of the log-normal.
const JITTER_SIGMA: f64 = 0.25;
/// Mean radius of the Earth, kilometres.
const EARTH_KM: f64 = 6_371.0;
/// Standard deviation of nodes about the centre of their region, degrees: about 550 km
/// from north to south.
const SPREAD_DEGREES: f64 = 5.0;

/// Part of the nodes that are in data centres.
const HOSTED_PART: f64 = 0.6;
/// Rate of a node in a data centre, bits a second.
const HOSTED_BITS_PER_SEC: f64 = 500e6;
/// Median upload rate of home lines, bits a second.
const HOME_BITS_PER_SEC: f64 = 20e6;
/// Spread of those rates: the sigma of the log-normal.
const HOME_SIGMA: f64 = 0.8;

/// Regions: name, latitude and longitude of the centre in degrees, and weight. The
/// weights follow roughly where crawlers of public chains find reachable nodes: half of
/// them in Europe, a third in North America, most of the rest in Asia.
const REGIONS: [(&str, f64, f64, f64); 8] = [
    ("Western Europe", 49.0, 2.0, 26.0),
    ("Central Europe", 51.0, 14.0, 24.0),
    ("North America, east", 40.0, -77.0, 22.0),
    ("North America, west", 38.0, -120.0, 11.0),
    ("East Asia", 35.0, 130.0, 8.0),
    ("South-east Asia", 5.0, 103.0, 4.0),
    ("South America", -22.0, -47.0, 3.0),
    ("Oceania", -34.0, 149.0, 2.0),
];

/// The number of regions; a node's region is an index below it.
pub(crate) const REGION_COUNT: usize = REGIONS.len();

/// Where a node is, and how fast its line is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeLocation {
    /// Index of the region, below [`REGION_COUNT`].
    pub(crate) region: usize,
    latitude: f64,
    longitude: f64,
    /// Upload rate, bits a second.
    pub(crate) bits_per_sec: f64,
}

impl NodeLocation {
    /// A random location: the region by its weight, then a place about its centre and a
    /// line.
    pub(crate) fn random(rng: &mut SimRng) -> Self {
        let all: f64 = REGIONS.iter().map(|(.., weight)| weight).sum();
        let mut left = rng.between(0.0, all);
        let mut region = 0;
        for (index, (.., weight)) in REGIONS.iter().enumerate() {
            region = index;
            left -= weight;
            if left <= 0.0 {
                break;
            }
        }
        let (_, latitude, longitude, _) = REGIONS[region];
        let bits_per_sec = if rng.happens(HOSTED_PART) {
            HOSTED_BITS_PER_SEC
        } else {
            rng.log_normal(HOME_BITS_PER_SEC, HOME_SIGMA)
        };
        Self {
            region,
            latitude: latitude + SPREAD_DEGREES * rng.normal(),
            longitude: longitude + SPREAD_DEGREES * rng.normal(),
            bits_per_sec,
        }
    }

    /// Great-circle distance by the haversine formula, kilometres.
    fn distance_km(&self, other: &Self) -> f64 {
        let (a, b) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_lat = libm::sin((b - a) / 2.0);
        let half_lon = libm::sin((other.longitude - self.longitude).to_radians() / 2.0);
        let chord = half_lat * half_lat + libm::cos(a) * libm::cos(b) * half_lon * half_lon;
        2.0 * EARTH_KM * libm::asin(libm::sqrt(chord.clamp(0.0, 1.0)))
    }

    /// The median delay of a message to another location, microseconds.
    pub(crate) fn latency_us(&self, other: &Self) -> f64 {
        1_000.0 * (ACCESS_MS + DETOUR * self.distance_km(other) / FIBRE_KM_PER_MS)
    }
}

/// The factor by which one message's delay differs from the median of its connection.
pub(crate) fn jitter(rng: &mut SimRng) -> f64 {
    rng.log_normal(1.0, JITTER_SIGMA)
}

#[cfg(test)]
mod tests {
    use super::{NodeLocation, REGIONS};

    fn centre(region: usize) -> NodeLocation {
        let (_, latitude, longitude, _) = REGIONS[region];
        NodeLocation {
            region,
            latitude,
            longitude,
            bits_per_sec: 1.0,
        }
    }

    /// Pings on the internet take about 75 ms across the Atlantic or the United States,
    /// and 200 to 300 ms from Europe to East Asia or Oceania.
    #[test]
    fn round_trips_are_those_of_the_earth() {
        let round_trip_ms = |a, b| 2.0 * centre(a).latency_us(&centre(b)) / 1_000.0;
        assert!((15.0..40.0).contains(&round_trip_ms(0, 1)));
        assert!((75.0..160.0).contains(&round_trip_ms(0, 2)));
        assert!((60.0..110.0).contains(&round_trip_ms(2, 3)));
        assert!((180.0..260.0).contains(&round_trip_ms(0, 4)));
        assert!((260.0..390.0).contains(&round_trip_ms(0, 7)));
    }
}

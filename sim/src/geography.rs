//! Where nodes are and how long a message takes between them.
//!
//! Latency: distance over the speed of light in fibre (two thirds of that in
//! a vacuum, about 200 km/ms), times 2.1, the rule of thumb of measurement
//! campaigns for how far routes and routers are from the straight line
//! (Bozkurt et al., "Dissecting Latency in the Internet's Fiber
//! Infrastructure", arXiv:1811.10737), plus a first and a last mile. Each message's
//! own delay varies log-normally about that.
//!
//! Rate: what a node can send. A part of the nodes stand in data centres; the
//! others hang on lines of homes, whose rates spread log-normally.

use crate::dice::Dice;

/// Kilometres that light makes in fibre in a millisecond.
const FIBRE_KM_PER_MS: f64 = 200.0;
/// How much longer than straight fibre a message takes (see above).
const DETOUR: f64 = 2.1;
/// The first and the last mile together, milliseconds: a router or two and, for
/// half of the nodes, a line to a home.
const ACCESS_MS: f64 = 8.0;
/// Spread of delays of one link, as sigma of the log-normal.
const JITTER_SIGMA: f64 = 0.25;
/// Radius of the Earth, kilometres.
const EARTH_KM: f64 = 6_371.0;
/// Spread of nodes about the centre of their region, degrees: some 550 km.
const SPREAD_DEGREES: f64 = 5.0;

/// Part of the nodes that stand in data centres.
const HOSTED_PART: f64 = 0.6;
/// What those send at most, bits a second.
const HOSTED_BITS_PER_SEC: f64 = 500e6;
/// Median of what lines of homes send, bits a second.
const HOME_BITS_PER_SEC: f64 = 20e6;
/// Spread of those, as sigma of the log-normal.
const HOME_SIGMA: f64 = 0.8;

/// Regions: name, latitude and longitude of the centre, weight. The weights
/// follow, roughly, where crawlers of public chains find reachable nodes:
/// a good half in Europe, a third in North America, the rest mostly in Asia.
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

/// How many regions there are.
pub(crate) const REGION_COUNT: usize = REGIONS.len();

/// Where a node is and what its line can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its region, an index.
    pub(crate) region: usize,
    latitude: f64,
    longitude: f64,
    /// What it can send, bits a second.
    pub(crate) bits_per_sec: f64,
}

impl Place {
    /// Somewhere, by the weights of the regions.
    pub(crate) fn somewhere(dice: &mut Dice) -> Self {
        let all: f64 = REGIONS.iter().map(|(.., weight)| weight).sum();
        let mut left = dice.between(0.0, all);
        let mut region = 0;
        for (index, (.., weight)) in REGIONS.iter().enumerate() {
            region = index;
            left -= weight;
            if left <= 0.0 {
                break;
            }
        }
        let (_, latitude, longitude, _) = REGIONS[region];
        let bits_per_sec = if dice.happens(HOSTED_PART) {
            HOSTED_BITS_PER_SEC
        } else {
            dice.log_normal(HOME_BITS_PER_SEC, HOME_SIGMA)
        };
        Self {
            region,
            latitude: latitude + SPREAD_DEGREES * dice.normal(),
            longitude: longitude + SPREAD_DEGREES * dice.normal(),
            bits_per_sec,
        }
    }

    /// Great-circle distance, kilometres (the haversine formula).
    fn distance_km(&self, other: &Self) -> f64 {
        let (a, b) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_lat = libm::sin((b - a) / 2.0);
        let half_lon = libm::sin((other.longitude - self.longitude).to_radians() / 2.0);
        let chord = half_lat * half_lat + libm::cos(a) * libm::cos(b) * half_lon * half_lon;
        2.0 * EARTH_KM * libm::asin(libm::sqrt(chord.clamp(0.0, 1.0)))
    }

    /// The median delay of a message to another place, microseconds.
    #[must_use]
    pub(crate) fn latency_us(&self, other: &Self) -> f64 {
        1_000.0 * (ACCESS_MS + DETOUR * self.distance_km(other) / FIBRE_KM_PER_MS)
    }
}

/// What becomes of a link's median delay for one message.
pub(crate) fn jitter(dice: &mut Dice) -> f64 {
    dice.log_normal(1.0, JITTER_SIGMA)
}

#[cfg(test)]
mod tests {
    use super::{Place, REGIONS};

    fn centre(region: usize) -> Place {
        let (_, latitude, longitude, _) = REGIONS[region];
        Place {
            region,
            latitude,
            longitude,
            bits_per_sec: 1.0,
        }
    }

    /// Round trips as pings show them: 75 ms across the Atlantic or the United
    /// States, 200 to 300 ms from Europe to the far side.
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

//! What is asked: the mix of operations, the keys and the values. Checked once, then only read.

mod mix;

pub use mix::Mix;
use rand::distributions::{Distribution, WeightedIndex};
use rand::rngs::SmallRng;
use rand::Rng;
use rand_distr::Zipf;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One operation of a workload. What the clients of a coordination service do, not what the protocol can.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// getData of a key.
    Get,
    /// setData of a key, any version.
    Set,
    /// create of a znode that is not there; the tree grows.
    Create,
    /// create, and as a next operation the delete of the same znode; the tree stays as it is.
    CreateDelete,
    /// create of an ephemeral, and as a next operation its delete.
    Ephemeral,
    /// create of a sequential znode, and as a next operation its delete.
    Sequential,
    /// exists of a key.
    Exists,
    /// getChildren of the key's parent.
    Children,
    /// A multi of `multi_size` setData.
    Multi,
    /// sync, then getData of the same key behind it: timed from the first to the answer of the second.
    SyncGet,
    /// getData, and setData of the same key behind it: timed from the first to the answer of the second.
    ReadModifyWrite,
    /// The second half of create-delete, ephemeral and sequential; not to be chosen.
    Delete,
}

/// How many kinds of operation there are.
pub const OPS: usize = 12;

impl Op {
    /// All of them, in the order of their numbers.
    pub const ALL: [Op; OPS] = [
        Op::Get,
        Op::Set,
        Op::Create,
        Op::CreateDelete,
        Op::Ephemeral,
        Op::Sequential,
        Op::Exists,
        Op::Children,
        Op::Multi,
        Op::SyncGet,
        Op::ReadModifyWrite,
        Op::Delete,
    ];

    /// The name in flags, scenario files and results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Set => "set",
            Op::Create => "create",
            Op::CreateDelete => "create-delete",
            Op::Ephemeral => "ephemeral",
            Op::Sequential => "sequential",
            Op::Exists => "exists",
            Op::Children => "children",
            Op::Multi => "multi",
            Op::SyncGet => "sync-get",
            Op::ReadModifyWrite => "read-modify-write",
            Op::Delete => "delete",
        }
    }

    fn from_name(name: &str) -> Option<Op> {
        Op::ALL.into_iter().find(|op| *op != Op::Delete && op.name() == name)
    }
}

/// Which key an operation takes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Each as often as any other.
    Uniform,
    /// Key k is taken in proportion to 1/k^theta; the ranks are spread over the key space.
    Zipfian(f64),
    /// A share of the keys gets a share of the operations: (keys, operations), both in 0..1.
    Hot(f64, f64),
}

impl std::str::FromStr for Choice {
    type Err = String;

    /// `uniform`, `zipfian`, `zipfian:0.99`, `hot:0.01:0.9`.
    fn from_str(text: &str) -> Result<Choice, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let numbers: Vec<f64> = parts
            .map(|part| part.parse().map_err(|_| format!("'{part}' in '{text}' is no number")))
            .collect::<Result<_, _>>()?;
        match (name, numbers.as_slice()) {
            ("uniform", []) => Ok(Choice::Uniform),
            ("zipfian", []) => Ok(Choice::Zipfian(0.99)),
            ("zipfian", [theta]) if *theta > 0.0 && *theta < 10.0 => Ok(Choice::Zipfian(*theta)),
            ("hot", []) => Ok(Choice::Hot(0.01, 0.9)),
            ("hot", [keys, ops]) if (0.0..1.0).contains(keys) && (0.0..=1.0).contains(ops) && *keys > 0.0 => {
                Ok(Choice::Hot(*keys, *ops))
            }
            _ => Err(format!("'{text}' is none of uniform, zipfian[:THETA], hot[:KEYS:OPERATIONS]")),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Uniform => f.write_str("uniform"),
            Choice::Zipfian(theta) => write!(f, "zipfian:{theta}"),
            Choice::Hot(keys, ops) => write!(f, "hot:{keys}:{ops}"),
        }
    }
}

/// Bytes in a value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    Fixed(usize),
    /// Each length between the two as often as any other.
    Uniform(usize, usize),
    /// (length, weight).
    Weighted(Vec<(usize, f64)>),
}

/// Above this a request passes the frame limit that servers have by default (1 MiB less a header).
pub const VALUE_BYTES_MAX: usize = 1_000_000;
/// All values of a multi together; servers can be told to take more than a frame of 1 MiB.
const MULTI_BYTES_MAX: usize = 16 << 20;

impl Size {
    /// The most bytes that a value may have.
    #[must_use]
    pub fn max(&self) -> usize {
        match self {
            Size::Fixed(bytes) | Size::Uniform(_, bytes) => *bytes,
            Size::Weighted(sizes) => sizes.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }

    /// The fewest.
    #[must_use]
    pub fn min(&self) -> usize {
        match self {
            Size::Fixed(bytes) | Size::Uniform(bytes, _) => *bytes,
            Size::Weighted(sizes) => sizes.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }

    fn check(&self) -> Result<(), String> {
        let is_right = match self {
            Size::Fixed(_) => true,
            Size::Uniform(low, high) => low <= high,
            Size::Weighted(sizes) => {
                !sizes.is_empty() && sizes.iter().all(|(_, w)| w.is_finite() && *w > 0.0)
            }
        };
        if is_right && self.max() <= VALUE_BYTES_MAX {
            return Ok(());
        }
        Err(format!("values of {self} bytes: sizes are 0 to {VALUE_BYTES_MAX}, weights above 0"))
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    /// `100`, `10-1000`, `100=90,10000=10`.
    fn from_str(text: &str) -> Result<Size, String> {
        let bytes = |part: &str| match part.trim().parse::<usize>() {
            Ok(n) if n <= VALUE_BYTES_MAX => Ok(n),
            Ok(n) => Err(format!("{n} bytes are above {VALUE_BYTES_MAX}, which servers refuse by default")),
            Err(_) => Err(format!("'{part}' is no number of bytes")),
        };
        if text.contains('=') {
            let mut sizes = Vec::new();
            for part in text.split(',') {
                let (size, weight) = part.split_once('=').ok_or(format!("'{part}' is not BYTES=WEIGHT"))?;
                let weight: f64 = weight.trim().parse().map_err(|_| format!("'{weight}' is no weight"))?;
                if !(weight.is_finite() && weight > 0.0) {
                    return Err(format!("the weight in '{part}' must be above 0"));
                }
                sizes.push((bytes(size)?, weight));
            }
            return Ok(Size::Weighted(sizes));
        }
        match text.split_once('-') {
            Some((low, high)) => match (bytes(low)?, bytes(high)?) {
                (low, high) if low <= high => Ok(Size::Uniform(low, high)),
                _ => Err(format!("'{text}' ends before it begins")),
            },
            None => Ok(Size::Fixed(bytes(text)?)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Fixed(bytes) => write!(f, "{bytes}"),
            Size::Uniform(low, high) => write!(f, "{low}-{high}"),
            Size::Weighted(sizes) => {
                let parts: Vec<_> = sizes.iter().map(|(size, weight)| format!("{size}={weight}")).collect();
                f.write_str(&parts.join(","))
            }
        }
    }
}

/// A part of the tree: keys below parents, their values, and which of them is taken.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Space {
    /// Everything of it is below this path.
    pub root: String,
    pub keys: u64,
    /// Keys below one parent.
    pub keys_per_parent: u64,
    pub choice: Choice,
    pub value: Size,
}

impl Space {
    /// Appends the path of a key.
    pub fn put_key(&self, out: &mut Vec<u8>, key: u64) {
        self.put_parent(out, key);
        out.extend_from_slice(b"/k");
        put_hex(out, key);
    }

    /// Appends the path of a key's parent.
    pub fn put_parent(&self, out: &mut Vec<u8>, key: u64) {
        out.extend_from_slice(self.root.as_bytes());
        out.extend_from_slice(b"/p");
        put_hex(out, key / self.keys_per_parent);
    }

    /// How many parents the keys have.
    #[must_use]
    pub fn parents(&self) -> u64 {
        self.keys.div_ceil(self.keys_per_parent)
    }

    fn check(&self) -> Result<(), String> {
        let root = &self.root;
        if !root.starts_with('/') || root.len() < 2 || root.ends_with('/') || root.contains("//") {
            return Err(format!("'{root}' is no path below / (for example /ringkeeper-load)"));
        }
        if root.len() > ROOT_BYTES_MAX {
            return Err(format!("a root of {} bytes is longer than {ROOT_BYTES_MAX}", root.len()));
        }
        self.value.check().map_err(|why| format!("{root}: {why}"))?;
        let is_right = match self.choice {
            Choice::Uniform => true,
            Choice::Zipfian(theta) => theta.is_finite() && theta > 0.0,
            Choice::Hot(keys, ops) => keys > 0.0 && keys <= 1.0 && (0.0..=1.0).contains(&ops),
        };
        if !is_right {
            return Err(format!("{root}: '{}' is no choice of keys", self.choice));
        }
        if self.keys == 0 || self.keys > KEYS_MAX || self.keys_per_parent == 0 {
            return Err(format!("{root}: keys are 1 to {KEYS_MAX}, and at least one below a parent"));
        }
        Ok(())
    }
}

const ROOT_BYTES_MAX: usize = 1_024;
/// Keys are numbered in eight hexadecimal digits.
pub const KEYS_MAX: u64 = 1_000_000_000;

/// An operation on a part of the tree, and how often it is asked beside the others.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    pub op: Op,
    pub weight: f64,
    /// The space's place in the plan.
    pub space: usize,
}

/// The whole of what a run asks. There is at least one space and one request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub spaces: Vec<Space>,
    pub requests: Vec<Request>,
    /// Operations in a multi.
    pub multi_size: usize,
    pub seed: u64,
}

impl Plan {
    /// One space and a mix of operations on it.
    pub fn simple(space: Space, mix: &Mix, multi_size: usize, seed: u64) -> Result<Plan, String> {
        let requests =
            mix.0.iter().map(|(op, weight)| Request { op: *op, weight: *weight, space: 0 }).collect();
        Plan { spaces: vec![space], requests, multi_size, seed }.checked()
    }

    /// The plan, if it can be carried out.
    pub fn checked(self) -> Result<Plan, String> {
        if self.spaces.is_empty() || self.requests.is_empty() {
            return Err("a plan has at least one space and one request".to_owned());
        }
        self.spaces.iter().try_for_each(Space::check)?;
        for request in &self.requests {
            if !(request.weight.is_finite() && request.weight > 0.0) || request.space >= self.spaces.len() {
                return Err(format!("the weight of {} must be above 0", request.op.name()));
            }
        }
        if self.multi_size == 0 || self.multi_size > 1_000 {
            return Err("a multi has 1 to 1000 operations".to_owned());
        }
        for request in self.requests.iter().filter(|request| request.op == Op::Multi) {
            let (count, bytes) = (self.multi_size, self.spaces[request.space].value.max());
            if count.saturating_mul(bytes) > MULTI_BYTES_MAX {
                return Err(format!(
                    "a multi of {count} values of up to {bytes} bytes is above {MULTI_BYTES_MAX} bytes, which no server takes"
                ));
            }
        }
        if self.spaces.iter().map(|space| space.keys).sum::<u64>() > KEYS_MAX {
            return Err(format!("all spaces together have at most {KEYS_MAX} keys"));
        }
        Ok(self)
    }

    /// The path below which the connections create.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.spaces[0].root
    }

    /// The mix alone: `get=90,set=10`, with the space's name where there are several.
    #[must_use]
    pub fn mix(&self) -> String {
        let name = |request: &Request| match self.spaces.len() {
            1 => format!("{}={}", request.op.name(), request.weight),
            _ => format!("{} {}={}", request.op.name(), self.spaces[request.space].root, request.weight),
        };
        self.requests.iter().map(name).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mix())?;
        for (at, space) in self.spaces.iter().enumerate() {
            let Space { keys, choice, value, root, .. } = space;
            let word = if at == 0 { " of" } else { "," };
            let below = if self.spaces.len() > 1 { format!(" below {root}") } else { String::new() };
            write!(f, "{word} {keys} keys{below} ({choice}), values of {value} B")?;
        }
        Ok(())
    }
}

/// Eight hexadecimal digits: paths of one length, whatever the number.
pub fn put_hex(out: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..8).rev() {
        out.push(DIGITS[(number >> (shift * 4) & 15) as usize]);
    }
}

/// A thread's own dice for a plan: two runs with one seed ask the same.
pub struct Dice {
    rng: SmallRng,
    requests: Vec<Request>,
    weights: Option<WeightedIndex<f64>>,
    spaces: Vec<SpaceDice>,
}

struct SpaceDice {
    keys: u64,
    choice: Choice,
    zipf: Option<Zipf<f64>>,
    stride: u64,
    size: Size,
    sizes: Option<WeightedIndex<f64>>,
}

impl SpaceDice {
    fn new(space: &Space) -> SpaceDice {
        let zipf = match space.choice {
            Choice::Zipfian(theta) => Some(Zipf::new(space.keys, theta).expect("keys and theta are above 0")),
            _ => None,
        };
        let sizes = match &space.value {
            Size::Weighted(sizes) => {
                Some(WeightedIndex::new(sizes.iter().map(|(_, w)| *w)).expect("sizes have weights above 0"))
            }
            _ => None,
        };
        let (keys, stride) = (space.keys, stride(space.keys));
        SpaceDice { keys, choice: space.choice, zipf, stride, size: space.value.clone(), sizes }
    }

    /// The key of a rank, from 0: each rank has its own, so that each key is as popular as its rank says. Neighbours in rank
    /// are no neighbours in the tree: the popular keys lie under all parents.
    fn key(&self, rank: u64) -> u64 {
        // Both are below `KEYS_MAX`: their product does not overflow.
        rank * self.stride % self.keys
    }
}

impl Dice {
    /// `thread` keeps the threads of a run apart.
    #[must_use]
    pub fn new(plan: &Plan, thread: u64) -> Dice {
        use rand::SeedableRng;
        let weights = plan.requests.iter().map(|request| request.weight);
        Dice {
            rng: SmallRng::seed_from_u64(plan.seed ^ thread.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            requests: plan.requests.clone(),
            weights: (plan.requests.len() > 1)
                .then(|| WeightedIndex::new(weights).expect("a checked plan has weights above 0")),
            spaces: plan.spaces.iter().map(SpaceDice::new).collect(),
        }
    }

    /// The next operation and its space.
    pub fn request(&mut self) -> (Op, usize) {
        let request = match &self.weights {
            None => self.requests[0],
            Some(weights) => self.requests[weights.sample(&mut self.rng)],
        };
        (request.op, request.space)
    }

    pub fn key(&mut self, space: usize) -> u64 {
        let space = &self.spaces[space];
        match space.choice {
            Choice::Uniform => self.rng.gen_range(0..space.keys),
            Choice::Zipfian(_) => {
                let rank = space.zipf.as_ref().map_or(1.0, |zipf| zipf.sample(&mut self.rng)) as u64 - 1;
                space.key(rank)
            }
            Choice::Hot(share, ops) => {
                let hot = ((space.keys as f64 * share).ceil() as u64).clamp(1, space.keys);
                if hot == space.keys || self.rng.gen_bool(ops) {
                    self.rng.gen_range(0..hot)
                } else {
                    self.rng.gen_range(hot..space.keys)
                }
            }
        }
    }

    pub fn size(&mut self, space: usize) -> usize {
        let space = &self.spaces[space];
        match (&space.size, &space.sizes) {
            (Size::Fixed(bytes), _) => *bytes,
            (Size::Uniform(low, high), _) => self.rng.gen_range(*low..=*high),
            (Size::Weighted(sizes), Some(weights)) => sizes[weights.sample(&mut self.rng)].0,
            (Size::Weighted(_), None) => 0,
        }
    }
}

/// The steps from one rank's key to the next's: near the golden section, which lays any few of them evenly, and without a
/// divisor in common with `keys`, so that no key comes twice.
fn stride(keys: u64) -> u64 {
    let common = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut stride = ((keys as f64 * 0.618) as u64).max(1);
    while common(stride, keys) != 1 {
        stride += 1;
    }
    stride
}

/// Appends a value that tells its own length, so that a reader can check what came back: four bytes of length, then
/// bytes that do not compress to nothing.
pub fn put_value(out: &mut Vec<u8>, bytes: usize) {
    let length = (bytes as u32).to_be_bytes();
    out.extend_from_slice(&length[..bytes.min(4)]);
    for at in 4..bytes {
        out.push((at as u32).wrapping_mul(0x9E37_79B1).to_be_bytes()[0]);
    }
}

/// Whether a value that came back is one that `put_value` made, whole.
#[must_use]
pub fn is_whole(value: &[u8]) -> bool {
    value.len() < 4 || value[..4] == (value.len() as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(choice: Choice) -> Plan {
        let root = "/load".to_owned();
        let space = Space { root, keys: 1_000, keys_per_parent: 100, choice, value: Size::Fixed(100) };
        Plan::simple(space, &"get=9,set=1".parse().expect("a mix"), 5, 1).expect("a plan")
    }

    #[test]
    fn flags_are_read_or_refused_with_what_there_is() {
        assert_eq!("zipfian:1.2".parse(), Ok(Choice::Zipfian(1.2)));
        assert_eq!("hot:0.1:0.8".parse(), Ok(Choice::Hot(0.1, 0.8)));
        for bad in ["zip", "zipfian:0", "hot:0:1", "hot:2:1", "uniform:1"] {
            assert!(bad.parse::<Choice>().is_err(), "{bad}");
        }
        assert_eq!("10-20".parse(), Ok(Size::Uniform(10, 20)));
        assert_eq!("100=9,5000=1".parse(), Ok(Size::Weighted(vec![(100, 9.0), (5000, 1.0)])));
        for bad in ["", "20-10", "x", "10000000", "5=0"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_follow_the_choice() {
        let count = |choice: Choice| {
            let mut dice = Dice::new(&plan(choice), 0);
            let mut hits = vec![0_u32; 1_000];
            for _ in 0..100_000 {
                hits[dice.key(0) as usize] += 1;
            }
            hits.sort_unstable_by(|a, b| b.cmp(a));
            hits
        };
        let uniform = count(Choice::Uniform);
        assert!(uniform[0] < 200 && uniform[999] > 30, "{} {}", uniform[0], uniform[999]);
        let zipf = count(Choice::Zipfian(0.99));
        assert!((10_000..20_000).contains(&zipf[0]), "{}", zipf[0]);
        let hot: u32 = count(Choice::Hot(0.01, 0.9))[..10].iter().sum();
        assert!((89_000..91_000).contains(&hot), "{hot}");
    }

    /// A third of the keys was never asked, and of few keys two ranks fell on one.
    #[test]
    fn each_rank_has_a_key_of_its_own() {
        let of = |keys: u64| {
            let mut space = plan(Choice::Zipfian(0.99)).spaces.remove(0);
            space.keys = keys;
            space
        };
        for keys in [1, 2, 3, 4, 5, 6, 10, 30, 1_000, 10_000] {
            let dice = SpaceDice::new(&of(keys));
            let all: std::collections::BTreeSet<u64> = (0..keys).map(|rank| dice.key(rank)).collect();
            assert_eq!((all.len() as u64, all.last()), (keys, Some(&(keys - 1))), "{keys} keys");
        }
        let most = SpaceDice::new(&of(KEYS_MAX));
        assert!(most.key(KEYS_MAX - 1) < KEYS_MAX);
        // The popular ones of 1,000 keys lie under all of ten parents.
        let dice = SpaceDice::new(&of(1_000));
        let parents: std::collections::BTreeSet<u64> = (0..16).map(|rank| dice.key(rank) / 100).collect();
        assert_eq!(parents.len(), 10);
    }

    #[test]
    fn the_most_popular_of_few_keys_are_asked_as_often_as_they_should() {
        for keys in [5, 10, 1_000] {
            let mut plan = plan(Choice::Zipfian(0.99));
            plan.spaces[0].keys = keys;
            let mut dice = Dice::new(&plan, 0);
            let mut hits = vec![0_u32; keys as usize];
            for _ in 0..100_000 {
                hits[dice.key(0) as usize] += 1;
            }
            hits.sort_unstable_by(|a, b| b.cmp(a));
            let weight = |rank: u64| (rank as f64).powf(-0.99);
            let all: f64 = (1..=keys).map(weight).sum();
            for rank in 1..=3 {
                let (want, got) = (weight(rank) / all, f64::from(hits[rank as usize - 1]) / 1e5);
                assert!((got / want - 1.0).abs() < 0.05, "rank {rank} of {keys} keys: {got}, not {want}");
            }
        }
    }

    #[test]
    fn a_mix_is_drawn_in_its_proportion_and_the_same_from_one_seed() {
        let draw = || {
            let mut dice = Dice::new(&plan(Choice::Uniform), 3);
            (0..10_000).map(|_| (dice.request().0, dice.key(0))).collect::<Vec<_>>()
        };
        let one = draw();
        let sets = one.iter().filter(|(op, _)| *op == Op::Set).count();
        assert!((900..1_100).contains(&sets), "{sets}");
        assert_eq!(one, draw());
    }

    #[test]
    fn a_value_tells_its_length() {
        for bytes in [0, 1, 3, 4, 5, 100, 70_000] {
            let mut value = Vec::new();
            put_value(&mut value, bytes);
            assert_eq!(value.len(), bytes);
            assert!(is_whole(&value));
            if bytes > 4 {
                assert!(!is_whole(&value[..bytes - 1]));
            }
        }
    }

    #[test]
    fn paths_have_one_length() {
        let plan = plan(Choice::Uniform);
        let mut path = Vec::new();
        plan.spaces[0].put_key(&mut path, 205);
        assert_eq!(path, b"/load/p00000002/k000000cd");
        assert_eq!(plan.spaces[0].parents(), 10);
    }
}

//! A consistent copy of the tree, a few stripes at a time, while it changes.

use crate::tree::{Node, Path, Striped};

/// A snapshot being taken: each stripe of the table is copied once, in its own time. Before a znode of a stripe that is not
/// copied yet changes, it is saved alone as it was: to copy its whole stripe then would cost each write a thousand znodes.
pub(super) struct StripeCursor {
    copied: Vec<bool>,
    next: usize,
    out: Vec<Vec<Node>>,
    /// What changed since the start in stripes that are not copied yet.
    saved: Striped<Saved>,
}

/// A path as it was when the snapshot began: a znode, or none.
struct Saved {
    path: Path,
    node: Option<Node>,
}

impl StripeCursor {
    pub(super) fn new(stripes: usize) -> StripeCursor {
        StripeCursor { copied: vec![false; stripes], next: 0, out: Vec::new(), saved: Striped::default() }
    }

    /// Whether a stripe is still to be copied. One that came by a split after the start holds nothing that was not copied
    /// with the one it left.
    pub(super) fn wants(&self, stripe: usize) -> bool {
        self.copied.get(stripe) == Some(&false)
    }

    /// Copies a stripe as it was at the start. All of it is asked for at once: each copy counts one up in the znode itself.
    pub(super) fn copy(&mut self, nodes: &Striped<Node>, stripe: usize) {
        self.copied[stripe] = true;
        nodes.stripe(stripe).for_each(Node::warm);
        let saved = &mut self.saved;
        let as_it_was = |(hash, node): (u64, &Node)| {
            if saved.is_empty() {
                return Some(node.clone());
            }
            match saved.remove(hash, |saved| saved.path.is(&node.path)) {
                Some(saved) => saved.node,
                None => Some(node.clone()),
            }
        };
        let copy = nodes.stripe_with_hashes(stripe).filter_map(as_it_was).collect();
        self.out.push(copy);
    }

    /// Takes note of a path in a stripe that is wanted, unless it was done before.
    pub(super) fn save(&mut self, hash: u64, path: &Path, node: Option<&Node>) {
        if self.saved.find(hash, |saved| saved.path.is(path)).is_none() {
            self.saved.insert(hash, Saved { path: path.clone(), node: node.cloned() });
        }
    }

    /// Copies up to so many stripes, and at the end what was deleted meanwhile.
    pub(super) fn go_on(&mut self, nodes: &Striped<Node>, stripes: usize) {
        let mut left = stripes;
        while left > 0 && !self.is_done() {
            if !self.copied[self.next] {
                self.copy(nodes, self.next);
                left -= 1;
            }
            self.next += 1;
        }
        if self.is_done() && !self.saved.is_empty() {
            self.copy_deleted();
        }
    }

    /// Whether the cursor has come to the end.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.copied.len()
    }

    /// What was copied since the last call.
    pub(super) fn take_out(&mut self) -> Vec<Vec<Node>> {
        std::mem::take(&mut self.out)
    }

    /// Every stripe is copied: what was saved and is in none of them any more was deleted since.
    fn copy_deleted(&mut self) {
        let saved = std::mem::take(&mut self.saved);
        self.out.push(saved.iter().filter_map(|saved| saved.node.clone()).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::State;
    use super::*;
    use crate::ids::{WallMillis, Zxid};
    use crate::tree::{path, Change, PathHasher, Znode};
    use std::collections::BTreeMap;

    fn changed(old: &Node, zxid: i64, children: i32) -> Node {
        let num_children = old.num_children + children;
        old.followed_by(Znode { mzxid: Zxid(zxid), num_children, ..(**old).clone() })
    }

    struct World {
        state: State,
        zxid: i64,
        dice: u64,
    }

    impl World {
        fn roll(&mut self, n: u64) -> u64 {
            self.dice =
                self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.dice >> 33) % n
        }

        /// Makes, changes or deletes one znode out of `names`.
        fn step(&mut self, names: u64) {
            self.zxid += 1;
            let name = format!("/n{}", self.roll(names));
            let root = self.state.node(path::ROOT).unwrap();
            let kind = self.roll(4);
            match (self.state.node(&name).ok(), kind) {
                (None, _) => {
                    let place = self.state.table.free_place(path::ROOT);
                    let znode = Znode { place, ..Znode::created(&name, Zxid(self.zxid), WallMillis(1)) };
                    let node = Node::new(znode, Some(b"x"));
                    self.state.create_node(node, changed(&root, self.zxid, 1));
                }
                (Some(_), 0 | 1) => self.state.delete_node(&name, changed(&root, self.zxid, -1)),
                (Some(old), _) => {
                    let node = changed(&old, self.zxid, 0);
                    self.state.replace_node(node.clone(), Change::DataSet { node });
                }
            }
            // Now and then a multi fails after all.
            if self.roll(5) == 0 {
                self.state.roll_back();
            }
            self.state.forget_steps();
        }
    }

    /// Growing trees, whose stripes split under the cursor, and shrinking ones.
    #[test]
    fn a_copy_is_the_tree_as_it_was_whatever_happens_meanwhile() {
        let rounds = if cfg!(miri) { 1 } else { 12 };
        let state = State::new(PathHasher::new([1, 2, 3, 4]));
        let mut world = World { state, zxid: 0, dice: 7 };
        for round in 0..rounds {
            let names = if cfg!(miri) { 300 } else { [500, 3_000, 20_000][round % 3] };
            for _ in 0..names / 4 {
                world.step(names);
            }
            let all = |state: &State| -> BTreeMap<String, i64> {
                let nodes = state.table.nodes().iter();
                nodes.map(|node| (node.path.as_str().to_owned(), node.mzxid.0)).collect()
            };
            let want = all(&world.state);
            world.state.start_snapshot();
            let mut copied = Vec::new();
            while let Some(parts) = world.state.copy_stripes(1) {
                copied.extend(parts.into_iter().flatten());
                for _ in 0..names / 8 {
                    world.step(names);
                }
            }
            let got: BTreeMap<String, i64> =
                copied.iter().map(|node| (node.path.as_str().to_owned(), node.mzxid.0)).collect();
            assert_eq!(copied.len(), got.len(), "no znode comes twice");
            assert_eq!(got, want);
        }
    }
}

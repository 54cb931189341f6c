//! Every order of two threads around `src/host/sleep.rs`: no wake-up is lost, and what the counter covers is there.
//!
//! Outside the workspace: `cargo test --manifest-path tests/loom/Cargo.toml`.

#[path = "../../../src/host/sleep.rs"]
pub mod sleep;

#[cfg(test)]
mod tests {
    use super::sleep::{Published, Sleep};
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::sync::Arc;
    use loom::thread;

    /// A queue of one message, as weak as a ring's own ordering: a relaxed flag, so that only `Sleep`'s fences help.
    struct World {
        message: AtomicBool,
        sleep: Sleep,
        rung: AtomicBool,
    }

    impl World {
        fn new() -> Arc<World> {
            Arc::new(World {
                message: AtomicBool::new(false),
                sleep: Sleep::default(),
                rung: AtomicBool::new(false),
            })
        }
    }

    #[test]
    fn a_sleeper_never_sleeps_on_a_message() {
        loom::model(|| {
            let world = World::new();
            let waker = {
                let world = world.clone();
                thread::spawn(move || {
                    world.message.store(true, Ordering::Relaxed);
                    if world.sleep.must_wake() {
                        world.rung.store(true, Ordering::Release);
                    }
                })
            };
            world.sleep.fall_asleep();
            let saw = world.message.load(Ordering::Relaxed);
            if saw {
                world.sleep.wake_up();
            }
            waker.join().unwrap();
            assert!(saw || world.rung.load(Ordering::Acquire), "it sleeps, and nobody rang");
        });
    }

    /// What concerns nobody wakes nobody who sleeps deeply, and what concerns him always does.
    #[test]
    fn a_deep_sleeper_is_woken_by_his_own_concern_alone() {
        for its_concern in [false, true] {
            loom::model(move || {
                let world = World::new();
                let waker = {
                    let world = world.clone();
                    thread::spawn(move || {
                        world.message.store(true, Ordering::Relaxed);
                        if world.sleep.must_wake_for(its_concern) {
                            world.rung.store(true, Ordering::Release);
                        }
                    })
                };
                world.sleep.fall_deeply_asleep();
                let saw = world.message.load(Ordering::Relaxed);
                waker.join().unwrap();
                let rung = world.rung.load(Ordering::Acquire);
                if its_concern {
                    assert!(saw || rung, "it sleeps, and nobody rang");
                } else {
                    assert!(!rung, "rung for what is not its concern");
                }
            });
        }
    }

    #[test]
    fn two_wakers_ring_a_sleeper_at_most_once_and_at_least_once() {
        loom::model(|| {
            let world = Arc::new((Sleep::default(), AtomicUsize::new(0), AtomicUsize::new(0)));
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let world = world.clone();
                    thread::spawn(move || {
                        world.1.fetch_add(1, Ordering::Relaxed);
                        if world.0.must_wake() {
                            world.2.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            world.0.fall_asleep();
            let saw = world.1.load(Ordering::Relaxed);
            for waker in wakers {
                waker.join().unwrap();
            }
            let rings = world.2.load(Ordering::Relaxed);
            assert!(rings <= 1, "{rings} rings for one sleep");
            assert!(saw == 2 || rings == 1, "a message that the sleeper did not see woke nobody");
        });
    }

    #[test]
    fn what_the_counter_covers_is_in_the_ring() {
        loom::model(|| {
            let world = Arc::new((Published::default(), AtomicUsize::new(0)));
            let sequencer = {
                let world = world.clone();
                thread::spawn(move || {
                    for number in 1..=2u64 {
                        world.1.store(number as usize, Ordering::Relaxed);
                        world.0.raise(number);
                    }
                })
            };
            let covered = world.0.load();
            let ring = world.1.load(Ordering::Relaxed);
            assert!(ring as u64 >= covered, "the counter says {covered}, the ring holds {ring}");
            sequencer.join().unwrap();
        });
    }
}

//! `src/host/sleep.rs` takes loom's atomics under this name.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(ringkeeper_loom)");
    println!("cargo:rustc-cfg=ringkeeper_loom");
}

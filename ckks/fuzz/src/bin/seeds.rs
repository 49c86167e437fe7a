//! Writes the objects that fuzzing starts from: `cargo run --release --bin seeds`, in this folder, makes `corpus/TARGET/seed`.

fn main() -> std::io::Result<()> {
    for (target, bytes) in ckks_fuzz::seeds() {
        let folder = std::path::Path::new("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("seed"), bytes)?;
    }
    Ok(())
}

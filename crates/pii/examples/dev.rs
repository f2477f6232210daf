//! tmp
#![allow(missing_docs, clippy::unwrap_used)]
use bantam_pii::evaluate::*;
use bantam_pii::*;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let side = std::env::args().nth(2).unwrap();
    let ex: Vec<Example> = std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|l| Example::parse(l).unwrap())
        .filter(|e| side == "all" || e.development == (side == "dev"))
        .collect();
    let d = Detectors::default();
    let o = Options::default();
    let t0 = std::time::Instant::now();
    d.detect("warm 1", &o).unwrap();
    eprintln!("build {:?}", t0.elapsed());
    let f: Vec<Vec<Finding>> = ex.iter().map(|e| d.detect(&e.text, &o).unwrap()).collect();
    let r = Report::new(ex.iter().zip(f.iter().map(|f| &f[..]))).unwrap();
    for (l, g) in &r.labels {
        println!(
            "{:20} {:?} P {:?} R {:?}",
            l.label,
            g.counts,
            g.precision.map(|s| (s.value * 1000.).round() / 1000.),
            g.recall.map(|s| (s.value * 1000.).round() / 1000.)
        );
    }
    println!(
        "SUM {:?}\n P {:?} R {:?}\n exact P {:?} R {:?}",
        r.sum.counts, r.sum.precision, r.sum.recall, r.sum.exact_precision, r.sum.exact_recall
    );
    println!("{:?}", r.unlabelled);
    let bytes: usize = ex.iter().map(|e| e.text.len()).sum();
    let t = std::time::Instant::now();
    let mut n = 0;
    while t.elapsed().as_secs_f64() < 2.0 {
        for e in &ex {
            std::hint::black_box(d.detect(&e.text, &o).unwrap());
        }
        n += 1;
    }
    println!("{:.2} MB/s in pieces", (bytes * n) as f64 / 1e6 / t.elapsed().as_secs_f64());
    let big: String = ex.iter().map(|e| e.text.as_str()).collect::<Vec<_>>().join("\n\n");
    let t = std::time::Instant::now();
    let mut n = 0;
    while t.elapsed().as_secs_f64() < 2.0 {
        std::hint::black_box(d.detect(&big, &o).unwrap());
        n += 1;
    }
    println!("{:.2} MB/s whole", (big.len() * n) as f64 / 1e6 / t.elapsed().as_secs_f64());
    if std::env::args().nth(3).is_some() {
        let counted = |l: &str| LABELS.iter().find(|x| x.label == l);
        for (e, f) in ex.iter().zip(&f) {
            for (r, l) in &e.spans {
                let Some(lab) = counted(l) else { continue };
                if lab.counted == Counted::Pattern
                    && !f.iter().any(|x| lab.entities.contains(&&*x.entity) && x.range == *r)
                {
                    println!(
                        "MISS {l} {:?} in {:?} -> {:?}",
                        &e.text[r.clone()],
                        &e.text[e.text.floor_char_boundary(r.start.saturating_sub(30))
                            ..e.text.ceil_char_boundary((r.end + 20).min(e.text.len()))],
                        f.iter().map(|x| (&x.entity, &e.text[x.range.clone()])).collect::<Vec<_>>()
                    );
                }
            }
            for x in f {
                if !e.spans.iter().any(|(r, l)| {
                    counted(l).is_some_and(|l| l.entities.contains(&&*x.entity))
                        && r.start < x.range.end
                        && x.range.start < r.end
                }) {
                    println!(
                        "FALSE {} {} {:?} in {:?}",
                        x.entity,
                        x.recogniser,
                        &e.text[x.range.clone()],
                        &e.text[e.text.floor_char_boundary(x.range.start.saturating_sub(40))
                            ..e.text.ceil_char_boundary((x.range.end + 20).min(e.text.len()))]
                    );
                }
            }
        }
    }
}

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::canvas::{Anchor, Canvas, Type, text_width};
use super::{BLUE, ORANGE};
use crate::quality::Confusion;
use crate::text::{count, counted, percent, shortened};

/// Most classes that are shown one by one.
const MAX_SHOWN: usize = 40;

/// A class of the picture: one label, what is left of the labels, or no prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Label(usize),
    Others,
    Nothing,
}

/// What was taken for what: rows by true label (down) and prediction (across). Labels that were mixed up stand side by
/// side; where there are more than 40, those with the fewest mistakes are drawn as one.
#[must_use]
pub fn confusion(confusion: &Confusion, labels: &[String]) -> String {
    let shown = shown_labels(confusion, labels.len());
    let n_others = labels.len() - shown.len();
    let class = |label: usize| if shown.contains(&label) { Class::Label(label) } else { Class::Others };
    let mut cells: BTreeMap<(Class, Class), usize> = BTreeMap::new();
    let mut hidden = 0;
    for cell in &confusion.cells {
        let at = (class(cell.truth), cell.predicted.map_or(Class::Nothing, class));
        if at == (Class::Others, Class::Others) && cell.predicted != Some(cell.truth) {
            hidden += cell.rows;
        } else {
            *cells.entry(at).or_default() += cell.rows;
        }
    }
    let mut down: Vec<Class> = shown.iter().map(|&label| Class::Label(label)).collect();
    down.extend((n_others > 0).then_some(Class::Others));
    let mut across = down.clone();
    across.extend(cells.keys().any(|at| at.1 == Class::Nothing).then_some(Class::Nothing));
    draw(&Picture { labels, n_others, hidden, cells, down, across })
}

/// The labels to show one by one, in an order that brings those that were mixed up together.
fn shown_labels(confusion: &Confusion, n_labels: usize) -> Vec<usize> {
    let mut mixed: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for cell in confusion.mistakes() {
        let other = cell.predicted.unwrap_or(cell.truth);
        *mixed.entry((cell.truth.min(other), cell.truth.max(other))).or_default() += cell.rows;
    }
    let mut pairs: Vec<_> = mixed.into_iter().collect();
    pairs.sort_by_key(|(pair, rows)| (Reverse(*rows), *pair));

    let kept = if n_labels <= MAX_SHOWN { (0..n_labels).collect() } else { most_mixed(&pairs) };
    // Single linkage: the most frequent mix-ups first, each joins the groups of its two labels.
    let mut groups: Vec<Vec<usize>> = kept.iter().map(|&label| vec![label]).collect();
    for ((a, b), _) in pairs {
        let group = |label| groups.iter().position(|group: &Vec<usize>| group.contains(&label));
        let (Some(first), Some(second)) = (group(a), group(b)) else { continue };
        if first != second {
            let joined = groups.remove(first.max(second));
            groups[first.min(second)].extend(joined);
        }
    }
    groups.concat()
}

/// The labels of the first pairs, both of each where there is room.
fn most_mixed(pairs: &[((usize, usize), usize)]) -> BTreeSet<usize> {
    let mut kept = BTreeSet::new();
    for ((a, b), _) in pairs {
        if kept.len() + 2 >= MAX_SHOWN && !(kept.contains(a) && kept.contains(b)) {
            break;
        }
        kept.extend([*a, *b]);
    }
    kept
}

struct Picture<'a> {
    labels: &'a [String],
    n_others: usize,
    /// Mistakes among the labels that are drawn as one.
    hidden: usize,
    cells: BTreeMap<(Class, Class), usize>,
    down: Vec<Class>,
    across: Vec<Class>,
}

impl Picture<'_> {
    fn name(&self, class: Class, columns: usize) -> String {
        match class {
            Class::Label(label) => self.labels.get(label).map_or_else(String::new, |name| shortened(name, columns)),
            Class::Others => format!("{} others", count(self.n_others)),
            Class::Nothing => "no answer".to_owned(),
        }
    }

    fn names(&self, classes: &[Class], columns: usize) -> Vec<String> {
        classes.iter().map(|&class| self.name(class, columns)).collect()
    }
}

fn draw(picture: &Picture<'_>) -> String {
    const TURN: f64 = 0.71; // sine and cosine of the slant of the upper names
    let cell = (560.0 / picture.across.len() as f64).clamp(17.0, 52.0);
    let size = if cell < 22.0 { 10.0 } else { 12.0 };
    let (left_names, top_names) = (picture.names(&picture.down, 30), picture.names(&picture.across, 24));
    let longest = |names: &[String], least: f64| names.iter().map(|name| text_width(name, size)).fold(least, f64::max);
    let left = longest(&left_names, 70.0) + 36.0;
    let top = longest(&top_names, 40.0) * TURN + 40.0;
    let (width, height) = (cell * picture.across.len() as f64, cell * picture.down.len() as f64);
    // The slanted name of the last column leans out.
    let lean = top_names.last().map_or(0.0, |name| text_width(name, size) * TURN);
    let total = (left + width + lean + 10.0).max(left + 300.0);
    let mut canvas = Canvas::new(total, top + height + if picture.hidden > 0 { 66.0 } else { 44.0 });

    canvas.text((left + width / 2.0, 14.0), Type { weight: 600, ..Type::BODY.at(Anchor::Middle) }, "predicted");
    let turned = Type { weight: 600, turned: -90.0, ..Type::BODY.at(Anchor::Middle) };
    canvas.text((14.0, top + height / 2.0), turned, "true");
    for (i, name) in left_names.iter().enumerate() {
        let y = top + (i as f64 + 0.5) * cell + size * 0.35;
        canvas.text((left - 8.0, y), Type { size, ..Type::BODY.at(Anchor::End) }, name);
    }
    for (i, name) in top_names.iter().enumerate() {
        let at = (left + (i as f64 + 0.5) * cell + size * 0.2, top - 7.0);
        canvas.text(at, Type { size, turned: -45.0, ..Type::BODY }, name);
    }
    let frame = "fill=\"currentColor\" fill-opacity=\"0.04\"";
    canvas.rect([left, top, width, height], frame, None);
    for i in 1..picture.down.len() {
        let y = top + i as f64 * cell;
        canvas.stroke((left, y), (left + width, y), super::plot::GRID);
    }
    for i in 1..picture.across.len() {
        let x = left + i as f64 * cell;
        canvas.stroke((x, top), (x, top + height), super::plot::GRID);
    }

    let mut worst: Vec<(usize, String)> = Vec::new();
    for (i, &truth) in picture.down.iter().enumerate() {
        let of_truth: usize = picture.cells.iter().filter(|(at, _)| at.0 == truth).map(|(_, rows)| rows).sum();
        for (j, &predicted) in picture.across.iter().enumerate() {
            let Some(&rows) = picture.cells.get(&(truth, predicted)) else { continue };
            let share = rows as f64 / of_truth as f64;
            let right = truth == predicted;
            // A single mistake among many rows must still be seen.
            let opacity = if right { 0.08 + 0.82 * share } else { 0.2 + 0.75 * share.min(0.5) * 2.0 };
            let (x, y) = (left + j as f64 * cell, top + i as f64 * cell);
            let names = (picture.name(truth, 60), picture.name(predicted, 60));
            let of = format!("{} of {}", count(rows), counted(of_truth, "row", "rows"));
            let said = format!("{of} of {} predicted as {} ({})", names.0, names.1, percent(share));
            let fill = if right { BLUE } else { ORANGE };
            let paint = format_args!("fill=\"{fill}\" fill-opacity=\"{opacity:.2}\"").to_string();
            canvas.rect([x + 0.5, y + 0.5, cell - 1.0, cell - 1.0], paint, Some(&said));
            let number = rows.to_string();
            let small = (cell * 0.9 / text_width(&number, 1.0)).min(size);
            if small >= 6.0 {
                let fill = if opacity > 0.6 { "#fff" } else { "currentColor" };
                let style = Type { size: small, fill, ..Type::BODY.at(Anchor::Middle) };
                canvas.text((x + cell / 2.0, y + cell / 2.0 + small * 0.35), style, &number);
            }
            if !right {
                worst.push((rows, said));
            }
        }
    }

    let y = top + height + 24.0;
    for (x, colour, said) in [(left, BLUE, "right"), (left + 70.0, ORANGE, "wrong")] {
        canvas.rect([x, y - 10.0, 12.0, 12.0], format_args!("fill=\"{colour}\""), None);
        canvas.text((x + 18.0, y), Type::SOFT, said);
    }
    canvas.text((left + 140.0, y), Type::SOFT, "the stronger, the more of the row");
    if picture.hidden > 0 {
        let hidden = counted(picture.hidden, "mistake", "mistakes");
        canvas.text(
            (left, y + 22.0),
            Type::SOFT,
            &format!("not drawn: {hidden} among the {} others", picture.n_others),
        );
    }
    worst.sort_by_key(|(rows, _)| Reverse(*rows));
    let read: Vec<String> = worst.into_iter().take(10).map(|(_, said)| said).collect();
    let read = if read.is_empty() {
        "No mistakes.".to_owned()
    } else {
        format!("Most frequent mistakes: {}.", read.join("; "))
    };
    canvas.finish("Confusion matrix", &read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::ConfusionCell;

    fn cell(truth: usize, predicted: Option<usize>, rows: usize) -> ConfusionCell {
        ConfusionCell { truth, predicted, rows, examples: Vec::new() }
    }

    #[test]
    fn labels_that_are_mixed_up_stand_side_by_side() {
        let cells = vec![cell(4, Some(1), 5), cell(0, Some(0), 9), cell(0, Some(3), 2), cell(3, Some(4), 1)];
        assert_eq!(shown_labels(&Confusion { cells }, 5), [0, 3, 1, 4, 2]);
    }

    /// Of 300 labels the pairs mixed up most are shown, the others are one line.
    #[test]
    fn many_labels_are_drawn_as_one() {
        let mut cells: Vec<_> = (0..300).map(|label| cell(label, Some(label), 20)).collect();
        cells.extend((0..50).map(|pair| cell(299 - 2 * pair, Some(2 * pair), 60 - pair)));
        cells.push(cell(7, None, 3));
        let confusion = Confusion { cells };
        let shown = shown_labels(&confusion, 300);
        assert_eq!(shown.len(), 38);
        assert!((0..19).all(|pair| shown.contains(&(299 - 2 * pair)) && shown.contains(&(2 * pair))));
        let labels: Vec<String> = (0..300).map(|label| label.to_string()).collect();
        let picture = super::confusion(&confusion, &labels);
        assert!(picture.contains(">262 others<") && picture.contains(">no answer<"));
        let hidden: usize = (19..50).map(|pair| 60 - pair).sum();
        assert!(picture.contains(&format!("not drawn: {} mistakes", count(hidden))));
    }
}

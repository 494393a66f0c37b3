// What changed its place between two orders of the same items. Ranks count from 1.

/** The rank of each item. */
export function ranksOf(items) { return new Map(items.map((item) => [item.item_id, item.rank])); }

/** Items of `after` whose rank differs from that in `before`, the largest difference first. */
export function movesBetween(before, after) {
  const moves = [];
  for (const [id, rank] of after) {
    const was = before.get(id);
    if (was !== undefined && was !== rank) moves.push({ id, was, rank });
  }
  return moves.sort((a, b) => Math.abs(b.was - b.rank) - Math.abs(a.was - a.rank) || a.rank - b.rank);
}

/** A sentence about the moves of n items. title: gives the words for an id. */
export function movesInWords(moves, n, title) {
  if (!moves.length) return `All ${n} items have the same place.`;
  const [most] = moves;
  const counted = moves.length === 1 ? `1 of ${n} items has` : `${moves.length} of ${n} items have`;
  return `${counted} another place; “${title(most.id)}” moved most, from ${most.was} to ${most.rank}.`;
}

/** Whether two orders have the same items. */
export function sameItems(one, other) {
  return one.size === other.size && [...one.keys()].every((id) => other.has(id));
}

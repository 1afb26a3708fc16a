"""The deterministic campus: one thread, one heap, virtual time, the product's own code above its ports.

What may live here: clocks, chance, disks, the broker, people, faults and planted bugs, and the truth
kept outside the product. What may not: a rule of the product. Read in this order: heap, chance, clock,
disk, transport (the ports); station and office (the nodes); people and faults (what happens to them);
truth and plants (what must hold, and how it is broken on purpose); world (all of it together).
"""

# What this organisation does not want to see in a change set. Every rule gives a sentence.
package cmcplan

import rego.v1

# A change set with errors is not ready to be judged.
deny contains "the change set has errors" if input.hasErrors

# One-way steps are reviewed one migration at a time.
deny contains message if {
	moved := {entry.migration | some entry in input.migrations; one_way(entry)}
	count(moved) > 1
	message := sprintf("%d migrations would take a one-way step at once: %s", [count(moved), concat(", ", moved)])
}

# No swing whose pause is above ten seconds.
deny contains message if {
	some entry in input.migrations
	some change in entry.changes
	change.step == "swing"
	change.pauseSeconds > 10
	message := sprintf("%s: a pause of %v s", [entry.migration, change.pauseSeconds])
}

# More than 20 TiB in one run is planned with the network team first.
deny contains message if {
	bytes := sum([change.bytesToMove | some entry in input.migrations; some change in entry.changes; change.bytesToMove])
	bytes > 20 * 1024 * 1024 * 1024 * 1024
	message := sprintf("%d bytes would be moved", [bytes])
}

one_way(entry) if {
	some change in entry.changes
	change.reversibility == "oneWay"
	not change.waitsFor
	change.step == "fence"
}

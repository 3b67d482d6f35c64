# figures.awk: samples (lines of series, place, value) as form=table, json or chart (for chart.awk):
#   awk -v bench=NAME -v form=FORM -f stats.awk -f figures.awk FS='|' figures FS='\t' samples
FILENAME ~ /figures$/ && /^[^#]/ && $1 == "bench" { here = $2 == bench }
FILENAME ~ /figures$/ {
	if (!here || /^#/ || !NF)
		next
	if ($1 == "bench") { chart = $3; title = $4 }
	if ($1 == "panel") { panel[++panels] = $2; axis[panels] = $3; hidden[panels] = $4; unit[panels] = $5; scale[panels] = $6 }
	if ($1 == "series") { order[++all] = $2; label[$2] = $3; of[$2] = panels }
	if ($1 == "place") place[$2] = $3
	if ($1 == "versus") versus = $2
	if ($1 == "ratio") { ratio_name = $2; upper = $3; lower = $4 }
	next
}
NF == 3 {
	sample[$1, $2, ++count[$1, $2]] = $3
	if (count[$1, $2] == 1)
		at[$1, ++places[$1]] = $2
}

# A series' places, where they are numbers, in their order.
function sort(s, i, j, v) {
	for (i = 2; i <= places[s] && at[s, 1] ~ /^[0-9]+$/; i++) {
		v = at[s, i]
		for (j = i - 1; j > 0 && at[s, j] + 0 > v + 0; j--)
			at[s, j + 1] = at[s, j]
		at[s, j + 1] = v
	}
}

function numeric(s) { return at[s, 1] ~ /^[0-9]+$/ }
function number(v) { return sprintf(v < 0.995 ? "%.3f" : v < 99.5 ? "%.2f" : "%.0f", v) }
function named(s, x) { return x == "" ? label[s] : numeric(s) ? label[s] : s == "phases" ? x : place[x] != "" ? place[x] : x }
function ratio() {
	stats(lower, "")
	lowest = median
	return stats(upper, "") && lowest ? sprintf("%.3f", median / lowest) : ""
}

# Against the first place, or the one of `versus`: how many times, and how much for each step of the axis.
function compared(s) { return numeric(s) || versus != "" }
function growth(s, x) {
	stats(s, versus != "" ? versus : at[s, 1])
	first = median
	stats(s, x)
	times = first ? median / first : 0
	slope = !numeric(s) || x == at[s, 1] ? 0 : (median - first) / (x - at[s, 1])
}

function table_row(p, s, x) {
	stats(s, x)
	printf "  %-30s %8s %10s %10s %10s", named(s, x), numeric(s) ? x : "", number(median / scale[p]), number(least / scale[p]),
		number(most / scale[p])
	if (compared(s)) {
		growth(s, x)
		printf " %8.2f", times
	}
	if (numeric(s))
		printf " %12s", x == at[s, 1] ? "-" : sprintf("%.4g", slope / scale[p])
	print ""
}

function table(p, i, j, s, k, shown, lines) {
	for (p = 1; p <= panels; p++) {
		shown = lines = 0
		for (i = 1; i <= all; i++) {
			s = order[i]
			for (j = 1; of[s] == p && j <= places[s]; j++) {
				if (!shown++)
					printf "%s%s, %s\n  %-30s %8s %10s %10s %10s%s\n", blank, panel[p], unit[p], "", axis[p] != "" ? substr(axis[p], 1, 8) : "",
						"median", "least", "most", (compared(s) ? "    ratio" : "") (numeric(s) ? "     per step" : "")
				table_row(p, s, at[s, j])
				blank = "\n"
			}
		}
	}
	if (ratio_name != "" && ratio() != "")
		printf "\nratio of the medians, %s to %s: %.2f\n", label[upper], label[lower], ratio()
}

function json_stats(s, x, text) {
	stats(s, x)
	text = sprintf("{\"median\": %.0f, \"min\": %.0f, \"max\": %.0f, \"n\": %d", median, least, most, count[s, x])
	if (compared(s)) {
		growth(s, x)
		text = text sprintf(", \"ratio\": %.4f", times)
	}
	if (numeric(s))
		text = text sprintf(", \"slope\": %.6g", slope)
	return text "}"
}

function json(i, j, s) {
	printf "{\"bench\": \"%s\", \"molt\": \"%s\"", bench, molt
	if (count["pause_ns", ""])
		printf ", \"updates\": %d", count["pause_ns", ""]
	for (i = 1; i <= all; i++) {
		s = order[i]
		if (!places[s])
			continue
		printf ", \"%s\": ", s
		if (at[s, 1] == "") {
			printf "%s", json_stats(s, "")
			continue
		}
		for (j = 1; j <= places[s]; j++)
			printf "%s\"%s\": %s", (j > 1 ? ", " : "{"), at[s, j], json_stats(s, at[s, j])
		printf "}"
	}
	if (ratio_name != "" && ratio() != "")
		printf ", \"%s\": %s", ratio_name, ratio()
	print "}"
}

# The update whose pause is the median one, phase by phase; the guest's view of it; the floor.
function timeline(k, i, x, colour, new) {
	stats("pause_reported_ns", "")
	for (k = 1; sample["pause_reported_ns", "", k] != median;) k++
	printf "title\t%s for %.2f ms (molt %s, update %d of %d: the median one)\n", title, sample["pause_ns", "", k] / 1e6, molt, k,
		count["pause_ns", ""]
	print "row\tmolt\tms"
	for (i = 1; i <= places["phases"]; i++) {
		x = at["phases", i]
		if (place[x] == "")
			continue
		new = new || x == "adopt"
		colour = new ? (i % 2 ? "#7a3e9d" : "#a06cc0") : (i % 2 ? "#2b5c9e" : "#5f8fd0")
		printf "part\t%s\t%.6f\t%s\t%s\n", x, sample["phases", x, k] / 1e6, x == "exec" ? "#8a6d3b" : colour, place[x]
	}
	printf "row\tseen by the guest\tms\npart\tpause\t%.6f\t#444444\t\n", sample["pause_ns", "", k] / 1e6
	if (stats("floor_ns", ""))
		printf "row\tfloor program\tms\npart\tmedian pause\t%.6f\t#2f7d4f\t\n", median / 1e6
}

function charted(p, i, j, s, x, per, begun) {
	if (chart == "timeline") {
		timeline()
		return
	}
	print "title\t" title ", molt " molt
	if (chart == "linear" || chart == "ratios")
		print "linear"
	for (p = 1; p <= panels; p++) {
		begun = 0
		for (i = 1; i <= all && !hidden[p]; i++) {
			s = order[i]
			for (j = 1; of[s] == p && j <= places[s]; j++) {
				x = at[s, j]
				if (!begun++)
					print chart == "lines" ? "panel\t" panel[p] "\t" axis[p] "\t" unit[p] : "group\t" panel[p]
				printf "%s\t%s\t", chart == "lines" ? "point" : "bar", chart == "lines" ? label[s] : named(s, x)
				if (chart == "lines")
					printf "%s\t", x
				growth(s, x)
				per = chart == "ratios" ? first : scale[p]
				printf "%g\t%g\t%g\t%s\n", median / per, least / per, most / per, chart == "ratios" ? "times" : unit[p]
			}
		}
	}
}

END {
	for (i = 1; i <= all; i++)
		sort(order[i])
	if (form == "json") json()
	else if (form == "chart") charted()
	else table()
}

# peers.awk: the lines of inner.sh's results, as form=table, json or bars (for chart.awk).
# Times come in microseconds; medians of an even count are the lower middle.

function load(line, words, n, i, pair) {
	delete f
	n = split(line, words, " ")
	for (i = 2; i <= n; i++)
		if (split(words[i], pair, "=") == 2)
			f[pair[1]] = pair[2]
}

function add(who, what, value) { sample[who, what, ++count[who, what]] = value + 0 }

function number(x) { return sprintf(x < 9.95 ? "%.1f" : "%.0f", x) }

# "12 [9.1..20]" of what was counted in thousandths.
function spread(who, what) {
	if (!stats(who, what))
		return "-"
	return number(median / 1000) " [" number(least / 1000) ".." number(most / 1000) "]"
}

function ratio(who, other, what, mine) {
	if (!stats(other, what) || !median)
		return "-"
	mine = median
	return stats(who, what) ? number(median / mine) : "-"
}

$1 == "ARTEFACT" { artefacts++ }
$1 == "CYCLE" {
	load($0)
	add(f["part"], "pause_us", f["pause_us"])
	add(f["part"], "total_us", f["total_us"])
	add(f["part"], "quiet_us", f["quiet_us"])
	add(f["part"], "own_us", f["own_us"])
	if (f["prepare_us"] + 0)
		add(f["part"], "prepare_us", f["prepare_us"])
	add(f["part"], "fds", f["fds"])
}
$1 == "MEMORY" {
	load($0)
	add(f["part"], f["when"] "_kb", f["rss_kb"])
	add(f["part"], f["when"] "_private_kb", f["private_kb"])
}
$1 == "BOOT" {
	load($0)
	add(f["who"], f["what"] "_us", f["us"])
	if (f["what"] == "byte") {
		add(f["who"], "rss_kb", f["rss_kb"])
		add(f["who"], "private_kb", f["private_kb"])
	}
}
$1 == "FATE" {
	load($0)
	fate[f["part"]] = f["fate"]
	updates[f["part"]] = f["updates"]
	sent[f["part"]] = f["sent"]
	lost[f["part"]] = f["lost"]
	after[f["part"]] = $0
	sub(/.* after=/, "", after[f["part"]])
}

function fate_text(who) {
	if (fate[who] == "ok")
		return lost[who] " of " sent[who]
	return "guest lost"
}

function update_row(who, title, base) {
	if (!(who in fate))
		return
	printf "%-20s %22s %24s %18s %12s %6s\n", title, spread(who, "pause_us"), spread(who, "total_us"), spread(who, "prepare_us"),
		fate_text(who), fate[who] == "ok" ? ratio(who, base, "pause_us") : "-"
	if (fate[who] != "ok")
		printf "    update %d: %s\n", updates[who], after[who]
}

function boot_row(who, title) {
	if (!count[who, "byte_us"])
		return
	printf "%-20s %22s %6s %24s %6s %18s %6s\n", title, spread(who, "byte_us"), ratio(who, "molt", "byte_us"),
		spread(who, "linux_us"), ratio(who, "molt", "linux_us"), spread(who, "rss_kb"), ratio(who, "molt", "rss_kb")
}

function table() {
	print "molt " molt " and QEMU " qemu " on Linux " kernel " (emulated host, 2 CPUs), guest of the same kernel, 1 CPU, 256 MiB,"
	print "NIC by VFIO type1. Median [least..most]. The host is emulated: ratios count, not times."
	print ""
	printf "%-20s %22s %24s %18s %12s %6s\n", "update, igb", "guest's pause, ms", "command to running, ms", "prepared, ms", "pings lost", "ratio"
	update_row("exec", "QEMU cpr-exec", "molt")
	update_row("transfer", "QEMU cpr-transfer", "molt")
	update_row("molt", "molt", "molt")
	print "the same, memory in pages of 2 MiB"
	update_row("exec-huge", "QEMU cpr-exec", "molt-huge")
	update_row("transfer-huge", "QEMU cpr-transfer", "molt-huge")
	update_row("molt-huge", "molt", "molt-huge")
	print "update, e1000e"
	update_row("exec-e1000e", "QEMU cpr-exec", "molt-e1000e")
	update_row("transfer-e1000e", "QEMU cpr-transfer", "molt-e1000e")
	update_row("molt-e1000e", "molt", "molt-e1000e")
	print ""
	printf "%-20s %22s %6s %24s %6s %18s %6s\n", "start", "guest's first byte, ms", "ratio", "Linux's first line, ms", "ratio", "memory, MB", "ratio"
	boot_row("q35", "QEMU q35")
	boot_row("microvm", "QEMU microvm")
	boot_row("molt", "molt")
	print ""
	if (count["exec", "start_kb"] && count["molt", "start_kb"])
		print "memory with a Linux guest and its igb: QEMU q35 " spread("exec", "start_kb") ", molt " spread("molt", "start_kb") \
			", ratio " ratio("exec", "molt", "start_kb")
	print "ratio: of the medians, to molt's. prepared: the second QEMU's start, while the guest runs. memory: resident at"
	print "the first byte, guest memory not counted. Guests lost by emulated SVM and tried again: " artefacts + 0
}

function json_stats(who, what) {
	if (!stats(who, what))
		return ""
	return sprintf("\"%s\":{\"median\":%.0f,\"min\":%.0f,\"max\":%.0f,\"n\":%d}", what, median, least, most, count[who, what])
}

function json_object(who, names, n, list, i, text, one) {
	n = split(names, list, " ")
	for (i = 1; i <= n; i++)
		if ((one = json_stats(who, list[i])) != "")
			text = text (text == "" ? "" : ",") one
	return text
}

function json(n, list, i, who, base, comma) {
	printf "{\"bench\":\"peers\",\"molt\":\"%s\",\"qemu\":\"%s\",\"kernel\":\"%s\",\"artefacts\":%d,\"updates\":{", molt, qemu, kernel, artefacts
	n = split("molt exec transfer molt-huge exec-huge transfer-huge molt-e1000e exec-e1000e transfer-e1000e", list, " ")
	for (i = 1; i <= n; i++) {
		who = list[i]
		if (!(who in fate))
			continue
		printf "%s\"%s\":{\"fate\":\"%s\",\"updates\":%d", comma, who, fate[who], updates[who]
		if (fate[who] == "ok")
			printf ",\"pings_sent\":%d,\"pings_lost\":%d", sent[who], lost[who]
		if (count[who, "pause_us"])
			printf ",%s", json_object(who, "pause_us total_us prepare_us quiet_us own_us fds start_kb end_kb start_private_kb end_private_kb")
		base = who ~ /-huge$/ ? "molt-huge" : "molt"
		if (fate[who] == "ok" && who !~ /e1000e/)
			printf ",\"pause_ratio\":%s", ratio(who, base, "pause_us") == "-" ? "null" : ratio(who, base, "pause_us")
		printf "}"
		comma = ","
	}
	printf "},\"starts\":{"
	comma = ""
	n = split("q35 microvm molt", list, " ")
	for (i = 1; i <= n; i++)
		if (count[list[i], "byte_us"]) {
			printf "%s\"%s\":{%s}", comma, list[i], json_object(list[i], "byte_us linux_us rss_kb private_kb")
			comma = ","
		}
	print "}}"
}

function bar(who, title, what, unit) {
	if (stats(who, what))
		print "bar\t" title "\t" median / 1000 "\t" least / 1000 "\t" most / 1000 "\t" unit
}

function bars() {
	print "title\tmolt " molt " beside QEMU " qemu " on the same emulated host: ratios count, not times"
	print "group\tthe guest's pause in an update, with an igb by VFIO"
	bar("exec", "QEMU cpr-exec", "pause_us", "ms")
	bar("transfer", "QEMU cpr-transfer", "pause_us", "ms")
	bar("molt", "molt", "pause_us", "ms")
	print "group\tthe same, guest memory in pages of 2 MiB"
	bar("exec-huge", "QEMU cpr-exec", "pause_us", "ms")
	bar("transfer-huge", "QEMU cpr-transfer", "pause_us", "ms")
	bar("molt-huge", "molt", "pause_us", "ms")
	print "group\tfrom the command until the guest runs again"
	bar("exec", "QEMU cpr-exec", "total_us", "ms")
	bar("transfer", "QEMU cpr-transfer", "total_us", "ms")
	bar("molt", "molt", "total_us", "ms")
	print "group\tfrom start to the first byte of a tiny guest"
	bar("q35", "QEMU q35", "byte_us", "ms")
	bar("microvm", "QEMU microvm", "byte_us", "ms")
	bar("molt", "molt", "byte_us", "ms")
	print "group\tmemory then, without the guest's"
	bar("q35", "QEMU q35", "rss_kb", "MB")
	bar("microvm", "QEMU microvm", "rss_kb", "MB")
	bar("molt", "molt", "rss_kb", "MB")
}

END {
	if (form == "json") json()
	else if (form == "bars") bars()
	else table()
}

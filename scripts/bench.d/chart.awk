# chart.awk: an SVG of what comes as lines with tabs between the fields; of one of three kinds.
#   title TEXT
# bars, all on one scale, logarithmic unless `linear` is said:
#   group TEXT
#   bar NAME VALUE LEAST MOST UNIT
# lines, a panel for each `panel`, whose points follow:
#   panel TITLE X-AXIS UNIT
#   point SERIES X VALUE LEAST MOST
# a timeline, rows of parts one after the other, on one scale:
#   row NAME UNIT
#   part NAME VALUE COLOUR NOTE
BEGIN {
	FS = "\t"
	split("#2f7d4f #2b5c9e #b5651d #7a3e9d", palette, " ")
	INK = "fill=\"#222222\""; PALE = "fill=\"#666666\""; BOLD = INK " font-weight=\"bold\""
}
$1 == "title" { title = $2 }
$1 == "linear" { linear = 1 }
$1 == "group" { group = $2 } # printed with its first bar: a part may not have been run
$1 == "bar" {
	if (group != "") { kind[++bars] = "group"; name[bars] = group; group = "" }
	kind[++bars] = "bar"
	name[bars] = $2; value[bars] = $3; least[bars] = $4; most[bars] = $5; unit[bars] = $6
	if (!low || $4 < low) low = $4
	if ($5 > high) high = $5
}
$1 == "panel" { panel[++panels] = $2; axis[panels] = $3; unit[panels] = $4 }
$1 == "point" {
	at[++points] = $3; value[points] = $4; least[points] = $5; most[points] = $6
	of[points] = panels; series[points] = $2
	if ($3 + 0 > right[panels]) right[panels] = $3
	if ($6 + 0 > top[panels]) top[panels] = $6
}
$1 == "row" { row[++rows] = $2; unit[rows] = $3 }
$1 == "part" {
	of[++parts] = rows; name[parts] = $2; value[parts] = $3; colour[parts] = $4; note[parts] = $5
	total[rows] += $3
	if (total[rows] > high) high = total[rows]
}

function escape(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); return s }
function number(v) { return sprintf(v >= 9.95 || v == int(v) ? "%.0f" : v >= 0.995 ? "%.1f" : "%.2f", v) }
function draw(s) { body = body s "\n" }
function text(x, y, anchor, style, s) {
	draw(sprintf("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>%s</text>", x, y, anchor, style, escape(s)))
}
function box(x, y, w, h, fill) {
	draw(sprintf("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>", x, y, w, h, fill))
}
function path(d, style) { draw("<path d=\"" d "\" fill=\"none\" " style "/>") }
# 1, 2 or 5 times a power of ten: about @n of them up to @v.
function step(v, n, s) {
	s = 10 ^ int(log(v / n) / log(10) - (v < n))
	return v / s > 5 * n ? 10 * s : v / s > 2 * n ? 5 * s : v / s > n ? 2 * s : s
}

function bars_x(v) {
	if (linear)
		return left + v / top10 * width
	return left + (log(v > floor10 ? v : floor10) - log(floor10)) / log(top10 / floor10) * width
}

function draw_bars(i, v, y, w) {
	left = 210; width = 520; height = 70 + bars * 26
	if (!high) { low = 1; high = 10 }
	floor10 = 1
	while (floor10 > low) floor10 /= 10
	while (floor10 * 10 <= low) floor10 *= 10
	w = step(high, 5)
	for (top10 = linear ? w : floor10; top10 < high;) top10 = linear ? top10 + w : top10 * 10
	for (v = linear ? 0 : floor10; v <= top10 * 1.001; v = linear ? v + w : v * 10) {
		path(sprintf("M%.1f 38 V%d", bars_x(v), height - 28), "stroke=\"#dddddd\"")
		text(bars_x(v), height - 12, "middle", PALE, sprintf("%g", v))
	}
	y = 40
	for (i = 1; i <= bars; i++) {
		y += 26
		if (kind[i] == "group") {
			text(20, y - 4, "start", BOLD, name[i])
			continue
		}
		text(left - 10, y - 4, "end", INK, name[i])
		box(left, y - 17, bars_x(value[i]) - left, 16, name[i] ~ /^QEMU/ ? "#8a93a3" : palette[1])
		# From the least to the most.
		path(sprintf("M%.1f %d H%.1f M%.1f %d v8 M%.1f %d v8", bars_x(least[i]), y - 9, bars_x(most[i]), bars_x(least[i]), y - 13,
			bars_x(most[i]), y - 13), "stroke=\"#222222\"")
		text(bars_x(most[i]) + 8, y - 4, "start", INK, number(value[i]) " " unit[i])
	}
}

# One panel in the box at x0, y0: 440 wide, 270 high.
function draw_panel(p, x0, y0, i, v, s, x, y, w, n, colour_of, from, legend_y) {
	x0 += 56; y0 += 28
	text(x0 - 36, y0 - 16, "start", BOLD, panel[p] ", " unit[p])
	if (!top[p]) { top[p] = 1 }
	if (!right[p]) { right[p] = 1 }
	s = step(top[p], 4)
	w = s * int(top[p] / s + 0.999)
	for (v = 0; v <= w * 1.001; v += s) {
		y = y0 + 190 - v / w * 190
		path(sprintf("M%.1f %.1f h360", x0, y), "stroke=\"#dddddd\"")
		text(x0 - 8, y + 4, "end", PALE, number(v))
	}
	n = 0; legend_y = y0 + 240
	for (i = 1; i <= points; i++) {
		if (of[i] != p)
			continue
		x = x0 + at[i] / right[p] * 350
		if (!(series[i] in colour_of)) {
			colour_of[series[i]] = palette[++n]
			text(x0 + 16 + (n - 1) % 2 * 190, legend_y + int((n - 1) / 2) * 18, "start", INK, series[i])
			box(x0 + (n - 1) % 2 * 190, legend_y - 9 + int((n - 1) / 2) * 18, 10, 10, palette[n])
		}
		y = y0 + 190 - value[i] / w * 190
		s = "stroke=\"" colour_of[series[i]] "\" stroke-width="
		if (from[series[i]] != "")
			path(from[series[i]] sprintf(" L%.1f %.1f", x, y), s "\"2\"")
		from[series[i]] = sprintf("M%.1f %.1f", x, y)
		path(sprintf("M%.1f %.1f V%.1f m-3 0 h6 M%.1f %.1f h6", x, y0 + 190 - least[i] / w * 190, y0 + 190 - most[i] / w * 190,
			x - 3, y0 + 190 - least[i] / w * 190), s "\"1\"")
		draw(sprintf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>", x, y, colour_of[series[i]]))
		if (!((p, at[i]) in ticked) && !(near(p, x))) {
			text(x, y0 + 206, "middle", PALE, at[i])
			ticked[p, at[i]] = 1
			places[p, ++placed[p]] = x
		}
	}
	text(x0 + 360, y0 + 222, "end", PALE, axis[p])
}

# Has a label been set too near?
function near(p, x, i) {
	for (i = 1; i <= placed[p]; i++)
		if (x - places[p, i] < 26 && places[p, i] - x < 26)
			return 1
	return 0
}

function draw_lines(p) {
	height = 54 + int((panels + 1) / 2) * 300
	for (p = 1; p <= panels; p++)
		draw_panel(p, (p - 1) % 2 * 440, 54 + int((p - 1) / 2) * 300)
}

function draw_timeline(i, r, x, y, s, v, w) {
	left = 150; width = 700
	s = step(high, 7); w = width / (high * 1.02)
	for (v = 0; v <= high; v += s) {
		path(sprintf("M%.1f 40 V%d", left + v * w, 52 + rows * 44), "stroke=\"#dddddd\"")
		text(left + v * w, 68 + rows * 44, "middle", PALE, sprintf("%g", v))
	}
	text(left + width, 86 + rows * 44, "end", PALE, unit[1])
	for (i = 1; i <= parts; i++) {
		if (of[i] != r) { r = of[i]; x = left; y = 6 + r * 44; text(left - 10, y + 19, "end", INK, row[r]) }
		box(x, y, value[i] * w, 28, colour[i])
		if (value[i] * w > 8 * length(name[i]) + 4)
			text(x + value[i] * w / 2, y + 19, "middle", "fill=\"#ffffff\"", name[i])
		x += value[i] * w
	}
	y = 108 + rows * 44
	for (i = 1; i <= parts; i++)
		if (note[i] != "") {
			box(20, y - 10, 11, 11, colour[i])
			text(40, y, "start", BOLD, name[i])
			text(170, y, "end", INK, number(value[i] * 1000) " us")
			text(190, y, "start", PALE, note[i])
			y += 20
		}
	height = y
}

END {
	if (rows) draw_timeline(); else if (panels) draw_lines(); else draw_bars()
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 %d\" font-family=\"sans-serif\" font-size=\"13\">\n", height
	printf "<title>%s</title>\n<rect width=\"900\" height=\"%d\" fill=\"#ffffff\"/>\n", escape(title), height
	text(20, 24, "start", BOLD, title)
	printf "%s</svg>\n", body
}

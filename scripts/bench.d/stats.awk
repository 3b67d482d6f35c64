# stats.awk: for figures.awk and peers.awk, whose samples are sample[SERIES, PLACE, 1..count[SERIES, PLACE]].

# Sets median (of an even count the lower middle), least, most.
function stats(s, x, n, i, j, v, a) {
	n = count[s, x] + 0
	for (i = 1; i <= n; i++) {
		v = sample[s, x, i]
		for (j = i - 1; j > 0 && a[j] > v; j--)
			a[j + 1] = a[j]
		a[j + 1] = v
	}
	least = a[1]; most = a[n]; median = a[int((n + 1) / 2)]
	return n
}

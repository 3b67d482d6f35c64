# bash completion for molt(1), loaded by bash-completion. molt itself says which words there are (--completion-words).

_molt_kind() { # the candidates of a kind of words
	case $1 in
	FILE | PATH | FROM | TO) _filedir ;;
	GUEST) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(
		compgen -W "$("$program" list --timeout 1 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur"
	) ;;
	DEVICE) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(
		compgen -W "$(cd "${MOLT_SYSFS:-/sys}/bus/pci/drivers/vfio-pci" 2>/dev/null && echo ????:*)" -- "$cur"
	) ;;
	esac
}

_molt() {
	local cur prev words cword program lines line word context=molt found=
	_init_completion -n := || return
	program=${words[0]}
	mapfile -t lines < <("$program" --completion-words 2>/dev/null)
	# The verb, and what belongs to it.
	for word in "${words[@]:1:cword-1}"; do
		[[ $word == [a-z]* && $'\n'$(printf '%s\n' "${lines[@]%|*}" "${lines[@]}") == *$'\n'"$context|$word"$'\n'* ]] || break
		context+=" $word"
	done
	# What follows an option stands alone.
	for line in "${lines[@]}"; do
		[[ $line == "$context $prev|"* ]] && found=1
	done
	[[ $found ]] && context+=" $prev"
	for line in "${lines[@]}"; do
		[[ $line == "$context|"* ]] || continue
		word=${line#"$context|"}
		word=${word%%|*}
		if [[ $word == [A-Z]* ]]; then
			_molt_kind "$word"
		elif [[ $word == "$cur"* ]]; then
			COMPREPLY+=("$word")
		fi
	done
	# A word that more is to be added to.
	[[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[:=] ]] && compopt -o nospace
	__ltrim_colon_completions "$cur"
}

complete -F _molt molt

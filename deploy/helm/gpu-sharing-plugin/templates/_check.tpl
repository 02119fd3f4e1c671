{{/*
The first problem of a part of a configuration file, in the program's words; empty: there is none.
dict "rule" RULE "value" VALUE "place" PATH "places" PATHS-BY-KEY; the rules are in files/configuration.json.
*/}}
{{- define "gpu-sharing-plugin.problem" -}}
{{- $kind := .rule.kind }}
{{- $problem := "" }}
{{- if kindIs "invalid" .value }}
{{- else if eq $kind "section" }}{{ $problem = include "gpu-sharing-plugin.problemOfSection" . }}
{{- else if eq $kind "list" }}{{ $problem = include "gpu-sharing-plugin.problemOfList" . }}
{{- else if eq $kind "any of" }}
{{- $type := include "gpu-sharing-plugin.type" .value }}
{{- $rule := dict "kind" "none" }}
{{- range .rule.kinds }}
{{- if has $type .types }}{{ $rule = . }}{{ end }}
{{- end }}
{{- if eq $rule.kind "none" }}{{ $problem = printf "%s: %s, got `%s`%s" .place (first .rule.says) $type (last .rule.says) }}
{{- else }}{{ $problem = include "gpu-sharing-plugin.problem" (merge (dict "rule" $rule) .) }}
{{- if $problem }}{{ $problem = printf "%s%s" (regexReplaceAll "; allowed: .*$" $problem "") (last .rule.says) }}{{ end }}
{{- end }}
{{- else if ne $kind "anything" }}
{{- with include (printf "gpu-sharing-plugin.%s" (camelcase (replace " " "_" $kind))) . }}{{ $problem = printf "%s: %s" $.place . }}{{ end }}
{{- end }}
{{- $problem }}
{{- end }}

{{/* The type of a value, in the program's words. */}}
{{- define "gpu-sharing-plugin.type" -}}
{{- if kindIs "string" . }}str
{{- else if kindIs "bool" . }}bool
{{- else if kindIs "map" . }}object
{{- else if kindIs "slice" . }}array
{{- else if eq (float64 .) (floor .) }}int
{{- else }}float
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.problemOfSection" -}}
{{- $in := . }}
{{- $at := ternary "" (printf "%s: " .place) (eq .place "") }}
{{- $problem := "" }}
{{- if not (kindIs "map" .value) }}
{{- $problem = printf "%sExpected `object`, got `%s`" $at (include "gpu-sharing-plugin.type" .value) }}
{{- else }}
{{- range $key, $value := .value }}
{{- if or $problem (kindIs "invalid" $value) }}
{{- else if hasKey $in.rule.keys $key }}
{{- $path := ternary $key (printf "%s.%s" $in.place $key) (eq $in.place "") }}
{{- $problem = include "gpu-sharing-plugin.problem" (dict "rule" (get $in.rule.keys $key) "value" $value "place" $path "places" $in.places) }}
{{- else if and (eq $in.place "") (has $key (list "apiVersion" "kind" "metadata" "data")) }}
{{- $problem = printf "\"%s\" is of a Kubernetes manifest; pass only the text below data" $key }}
{{- else }}
{{- $meant := "" }}
{{- with get $in.places $key }}{{ $meant = printf " (did you mean %s?)" . }}{{ end }}
{{- range $in.rule.order }}{{ if eq (lower .) (lower $key) }}{{ $meant = printf " (did you mean %q?)" . }}{{ end }}{{ end }}
{{- $problem = printf "%sunknown key \"%s\"%s; allowed keys: %s" $at $key $meant (join ", " $in.rule.order) }}
{{- end }}
{{- end }}
{{- range .rule.required }}
{{- if and (not $problem) (or (not (hasKey $in.value .)) (kindIs "invalid" (index $in.value .))) }}
{{- if eq . "resources" }}{{ $problem = printf "%sit has no resources to share; leave it out" $at }}
{{- else }}{{ $problem = printf "%sObject missing required field `%s`" $at . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- $problem }}
{{- end }}

{{- define "gpu-sharing-plugin.problemOfList" -}}
{{- $in := . }}
{{- $problem := "" }}
{{- if not (kindIs "slice" .value) }}
{{- $problem = printf "%s: Expected `array`, got `%s`" .place (include "gpu-sharing-plugin.type" .value) }}
{{- else if lt (len .value) (int .rule.least) }}
{{- $problem = printf "%s: the list is empty; leave the section out" .place }}
{{- else }}
{{- range $number, $value := .value }}
{{- if not $problem }}
{{- $problem = include "gpu-sharing-plugin.problem" (dict "rule" $in.rule.of "value" $value "place" (printf "%s[%d]" $in.place $number) "places" $in.places) }}
{{- end }}
{{- end }}
{{- end }}
{{- $problem }}
{{- end }}

{{- define "gpu-sharing-plugin.Bool" -}}
{{- if kindIs "bool" .value }}
{{- else if has (toString .value | lower) (list "true" "false") }}
{{- printf "\"%s\" is a text; write %s without quotes" .value (lower .value) }}
{{- else }}
{{- printf "Expected `bool`, got `%s`" (include "gpu-sharing-plugin.type" .value) }}
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.Int" -}}
{{- $type := include "gpu-sharing-plugin.type" .value }}
{{- if eq $type "int" }}
{{- if lt (float64 .value) (float64 .rule.least) }}
{{- if and (eq (int .rule.least) 2) (eq (int .value) 1) -}}
one replica shares nothing; leave the entry out
{{- else }}
{{- printf "Expected `int` >= %d" (int .rule.least) }}
{{- end }}
{{- end }}
{{- else if and (eq $type "str") (regexMatch "^-?[0-9]{1,9}(\\.0+)?$" (toString .value)) }}
{{- printf "\"%s\" is a text; write %s without quotes" .value (regexFind "^-?[0-9]+" .value) }}
{{- else }}
{{- printf "Expected `int`, got `%s`" $type }}
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.Text" -}}
{{- $type := include "gpu-sharing-plugin.type" .value }}
{{- if ne $type "str" }}{{ printf "Expected `str`, got `%s`" $type }}
{{- else if lt (len .value) (int .rule.least) }}{{ printf "Expected `str` of length >= %d" (int .rule.least) }}
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.OneOf" -}}
{{- $type := include "gpu-sharing-plugin.type" .value }}
{{- $allowed := join ", " .rule.values }}
{{- if ne $type "str" }}{{ printf "Expected `str`, got `%s`; allowed: %s" $type $allowed }}
{{- else if has .value .rule.values }}
{{- else if contains "," .value }}
{{- $parts := list }}{{ range splitList "," .value }}{{ $parts = append $parts (trim .) }}{{ end }}
{{- printf "Invalid enum value '%s'; write a list: [%s]; allowed: %s" .value (join ", " $parts) $allowed }}
{{- else }}{{ printf "Invalid enum value '%s'; allowed: %s" .value $allowed }}
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.Time" -}}
{{- $text := regexReplaceAll "\\s+" (toString .value) " " }}
{{- if and .rule.zero (regexMatch "^0+(\\.0+)?(ms|s|m|h)?$" $text) }}
{{- else if or (kindIs "bool" .value) (not (regexMatch "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)?$" $text)) (regexMatch "^[0.]+(ms|s|m|h)?$" $text) }}
{{- printf "\"%s\" is not a positive time; write a time as 30s, 5m or 2.5%s" $text (ternary ", or 0 for never" "" .rule.zero) }}
{{- else if lt (include "gpu-sharing-plugin.seconds" $text | float64) (float64 .rule.least) }}
{{- printf "\"%s\" %s" $text .rule.says }}
{{- else if gt (include "gpu-sharing-plugin.seconds" $text | float64) 604800.0 }}
{{- printf "\"%s\" is too long; write at most 168h" $text }}
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.seconds" -}}
{{- $factor := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "" 1.0) (regexFind "[a-z]*$" .) }}
{{- mulf (regexFind "^[0-9.]+" . | float64) $factor }}
{{- end }}

{{- define "gpu-sharing-plugin.Xids" -}}
{{- $problem := "" }}
{{- if not (kindIs "map" .value) }}{{ $problem = "write Xids with fatal or ignore, such as {79: fatal}" }}
{{- else }}
{{- range $xid, $rule := .value }}
{{- if or $problem (kindIs "invalid" $rule) }}
{{- else if not (regexMatch "^[1-9][0-9]{0,8}$" $xid) }}{{ $problem = printf "\"%s\" is not an Xid; write a number such as 79" $xid }}
{{- else if not (has $rule (list "fatal" "ignore")) }}{{ $problem = printf "%s: \"%v\" is not allowed; write fatal or ignore" $xid $rule }}
{{- end }}
{{- end }}
{{- end }}
{{- $problem }}
{{- end }}

{{/* Why a text is no resource name; empty: it is one. */}}
{{- define "gpu-sharing-plugin.problemOfName" -}}
{{- $name := trimPrefix "nvidia.com/" . }}
{{- if gt (len $name) 52 }}
{{- printf "\"nvidia.com/%s\" has %d characters; write at most 63" $name (add 11 (len $name)) }}
{{- else if regexMatch "^mig-[0-9a-zA-Z.]+([+][a-zA-Z.]+)+$" $name }}
{{- printf "\"nvidia.com/%s\" is not a resource name; write %s" $name (. | replace "+" "." | lower) }}
{{- else if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" $name) }}
{{- printf "\"nvidia.com/%s\" is not a resource name; after nvidia.com/ write lower-case letters, digits, '-' and '.', and begin and end with a letter or digit" $name }}
{{- end }}
{{- end }}

{{/* The first problem of a whole configuration, a mapping: of its keys, and then of what does not go together. */}}
{{- define "gpu-sharing-plugin.problemOfFile" -}}
{{- $rules := .rules }}
{{- $problem := include "gpu-sharing-plugin.problem" (dict "rule" $rules.rule "value" .value "place" "" "places" $rules.places) }}
{{- $sharing := .value.sharing | default dict }}
{{- if $problem }}
{{- else if not (has (.value.version | default "v1") (list "v1")) }}{{ $problem = printf "version: %q; allowed: v1" .value.version }}
{{- else }}
{{- $health := .value.health | default dict }}
{{- $stale := toString ($health.staleAfter | default "10s") }}
{{- $poll := toString ($health.pollInterval | default "5s") }}
{{- $seconds := include "gpu-sharing-plugin.seconds" $poll | float64 }}
{{- if lt (include "gpu-sharing-plugin.seconds" $stale | float64) (mulf 2.0 $seconds) }}
{{- $problem = printf "health.staleAfter %vs with health.pollInterval %vs: write a staleAfter of at least two poll intervals, %vs, or a shorter pollInterval" (include "gpu-sharing-plugin.seconds" $stale) $seconds (mulf 2.0 $seconds) }}
{{- end }}
{{- $slicing := ($sharing.timeSlicing | default dict) }}
{{- $mps := ($sharing.mps | default dict) }}
{{- if not $problem }}{{ $problem = include "gpu-sharing-plugin.problemOfShares" (dict "section" "sharing.timeSlicing" "given" $slicing) }}{{ end }}
{{- if not $problem }}{{ $problem = include "gpu-sharing-plugin.problemOfShares" (dict "section" "sharing.mps" "given" $mps) }}{{ end }}
{{- if not $problem }}{{ $problem = include "gpu-sharing-plugin.problemOfBoth" (dict "slicing" $slicing "mps" $mps) }}{{ end }}
{{- end }}
{{- $problem }}
{{- end }}

{{/* The first problem of the entries of one kind of sharing; dict "section" PATH "given" SECTION. */}}
{{- define "gpu-sharing-plugin.problemOfShares" -}}
{{- $problem := "" }}
{{- $whole := dict }}
{{- $section := .section }}
{{- range $number, $entry := .given.resources }}
{{- $name := ternary $entry.name (printf "nvidia.com/%s" $entry.name) (hasPrefix "nvidia.com/" $entry.name) }}
{{- $key := printf "%s.resources[%d]" $section $number }}
{{- range $field := list "name" "rename" }}
{{- with get $entry $field }}
{{- with include "gpu-sharing-plugin.problemOfName" . }}
{{- if not $problem }}{{ $problem = printf "%s.%s: %s" $key $field . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- $memory := dig "memoryLimit" "share" $entry | default "share" }}
{{- $threads := dig "threads" "share" $entry | default "share" }}
{{- if $problem }}
{{- else if gt (float64 $entry.replicas) 69905.0 }}
{{- $problem = printf "%s.replicas: the kubelet accepts lists of 4 MiB, too small for %d replicas; write at most 69905" $key (int $entry.replicas) }}
{{- else if and (eq (int $entry.replicas) 1) (kindIs "string" $memory) (kindIs "string" $threads) }}
{{- $problem = printf "%s.replicas: one replica shares nothing; leave the entry out, or write a number as memoryLimit or threads" $key }}
{{- else if not (or (kindIs "string" $memory) (le (float64 $memory) 16777216.0)) }}
{{- $problem = printf "%s.memoryLimit: %d MiB is too much; write at most 16777216" $key (int64 $memory) }}
{{- else if not (or (kindIs "string" $threads) (le (float64 $threads) 100.0)) }}
{{- $problem = printf "%s.threads: %d percent is too much; write at most 100" $key (int64 $threads) }}
{{- else if hasKey $whole $name }}
{{- $problem = printf "%s: an earlier entry shares all devices of %s; remove one of the entries, or name the devices of each" $key $name }}
{{- end }}
{{- if eq (toString ($entry.devices | default "all")) "all" }}{{ $_ := set $whole $name true }}{{ end }}
{{- end }}
{{- $problem }}
{{- end }}

{{/* Why both kinds of sharing do not go together; dict "slicing" SECTION "mps" SECTION. */}}
{{- define "gpu-sharing-plugin.problemOfBoth" -}}
{{- $in := . }}
{{- $names := dict "slicing" dict "mps" dict }}
{{- $shown := dict "slicing" dict "mps" dict }}
{{- range $kind := list "slicing" "mps" }}
{{- $given := get $in $kind }}
{{- range $entry := $given.resources }}
{{- $_ := set (get $names $kind) (printf "nvidia.com/%s" (trimPrefix "nvidia.com/" $entry.name)) true }}
{{- $new := $entry.rename | default (printf "%s%s" $entry.name (ternary ".shared" "" ($given.renameByDefault | default false))) }}
{{- $_ := set (get $shown $kind) (printf "nvidia.com/%s" (trimPrefix "nvidia.com/" $new)) true }}
{{- end }}
{{- end }}
{{- $problem := "" }}
{{- range $name := keys $names.mps | sortAlpha }}
{{- if and (not $problem) (hasKey $names.slicing $name) }}{{ $problem = printf "sharing.mps: sharing.timeSlicing shares %s too; keep one of the entries" $name }}{{ end }}
{{- end }}
{{- range $name := keys $shown.mps | sortAlpha }}
{{- if and (not $problem) (hasKey $shown.slicing $name) }}{{ $problem = printf "sharing.mps: resources that are shared without MPS are named %s too; write another rename" $name }}{{ end }}
{{- end }}
{{- $problem }}
{{- end }}

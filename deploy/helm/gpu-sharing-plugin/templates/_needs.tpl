{{/* Joins a list with commas; a text stays as it is. */}}
{{- define "gpu-sharing-plugin.commas" -}}
{{- kindIs "slice" . | ternary (join "," .) (toString .) }}
{{- end }}

{{/* The ConfigMap with the configuration files; empty if there is none. */}}
{{- define "gpu-sharing-plugin.configMapName" -}}
{{- if .Values.config.name }}
{{- .Values.config.name }}
{{- else if .Values.config.map }}
{{- printf "%s-configs" (include "gpu-sharing-plugin.fullname" .) }}
{{- end }}
{{- end }}

{{/* NFD's folder, from which its worker reads labels. */}}
{{- define "gpu-sharing-plugin.featuresFolder" -}}
/etc/kubernetes/node-feature-discovery/features.d
{{- end }}

{{/* Whether NFD's folder is among the additional mounts; empty: it is not. */}}
{{- define "gpu-sharing-plugin.mountsFeatures" -}}
{{- $folder := include "gpu-sharing-plugin.featuresFolder" . }}
{{- range .Values.extraVolumeMounts }}
{{- if eq (.mountPath | default "" | trimSuffix "/") $folder }}true{{ end }}
{{- end }}
{{- end }}

{{/* How labels get to the node: file, nodefeature, node; empty: not at all. */}}
{{- define "gpu-sharing-plugin.nodeLabels" -}}
{{- $output := .Values.nodeLabels.output }}
{{- if kindIs "invalid" $output }}
{{- $output = "off" }}
{{- if .Values.gfd.enabled }}
{{- $api := ne (toString .Values.nfd.enableNodeFeatureApi) "false" }}
{{- $output = ternary "nodefeature" "file" (and $api (not (include "gpu-sharing-plugin.mountsFeatures" .))) }}
{{- end }}
{{- end }}
{{- if ne $output "off" }}{{ $output }}{{ end }}
{{- end }}

{{/* What the service needs the API server for: config, events, condition, taint, dra, node, nodefeature; empty: no token. */}}
{{- define "gpu-sharing-plugin.apiUses" -}}
{{- $uses := list }}
{{- if include "gpu-sharing-plugin.configMapName" . }}{{ $uses = append $uses "config" }}{{ end }}
{{- if .Values.events.enabled }}{{ $uses = append $uses "events" }}{{ end }}
{{- if .Values.nodeCondition.enabled }}{{ $uses = append $uses "condition" }}{{ end }}
{{- if .Values.nodeTaint.enabled }}{{ $uses = append $uses "taint" }}{{ end }}
{{- if .Values.draCheck.enabled }}{{ $uses = append $uses "dra" }}{{ end }}
{{- $labels := include "gpu-sharing-plugin.nodeLabels" . }}
{{- if has $labels (list "node" "nodefeature") }}{{ $uses = append $uses $labels }}{{ end }}
{{- join " " $uses }}
{{- end }}

{{/* The configuration file made from the values health and sharing; empty if neither is set. */}}
{{- define "gpu-sharing-plugin.settings" -}}
{{- $health := dict }}
{{- range $key, $value := .Values.health }}
{{- if kindIs "map" $value }}
{{- $inner := dict }}
{{- range $name, $one := $value }}
{{- if not (kindIs "invalid" $one) }}{{ $_ := set $inner $name $one }}{{ end }}
{{- end }}
{{- if $inner }}{{ $_ := set $health $key $inner }}{{ end }}
{{- else if not (kindIs "invalid" $value) }}{{ $_ := set $health $key $value }}
{{- end }}
{{- end }}
{{- $file := dict }}
{{- if $health }}{{ $_ := set $file "health" $health }}{{ end }}
{{- if .Values.sharing }}{{ $_ := set $file "sharing" .Values.sharing }}{{ end }}
{{- if $file }}{{ toYaml (merge (dict "version" "v1") $file) }}{{ end }}
{{- end }}

{{/*
Whether there is a DaemonSet for MPS; empty: no. `auto`: if the values, or a file of config.map, share by MPS.
The files of an existing ConfigMap cannot be read here.
*/}}
{{- define "gpu-sharing-plugin.mps" -}}
{{- $shares := not (kindIs "invalid" .Values.sharing.mps) }}
{{- range $text := .Values.config.map }}
{{- $sharing := (fromYaml $text).sharing }}
{{- if kindIs "map" $sharing }}{{ if not (kindIs "invalid" $sharing.mps) }}{{ $shares = true }}{{ end }}{{ end }}
{{- end }}
{{- $enabled := toString .Values.mps.enabled }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") $shares) }}true{{ end }}
{{- end }}

{{/*
What the pod needs rights for: mig, cdi, volume-mounts, devices. A value decides; if it is not set, all
files of config.map decide, or for an existing ConfigMap, which cannot be read here, config.uses.
*/}}
{{- define "gpu-sharing-plugin.needs" -}}
{{- $uses := list }}
{{- if .Values.config.name }}
{{- $uses = kindIs "invalid" .Values.config.uses | ternary (list "mig") (.Values.config.uses | default list) }}
{{- end }}
{{- $mig := list }}{{ $lists := list }}{{ $devices := list }}
{{- range $text := .Values.config.map }}
{{- /* refusals.yaml refuses a file that is no mapping, but may be rendered later than this. */}}
{{- $flags := (fromYaml $text).flags }}
{{- if not (kindIs "map" $flags) }}{{ $flags = dict }}{{ end }}
{{- $plugin := $flags.plugin }}
{{- if not (kindIs "map" $plugin) }}{{ $plugin = dict }}{{ end }}
{{- $mig = append $mig ($flags.migStrategy | default "none") }}
{{- $lists = append $lists (include "gpu-sharing-plugin.commas" ($plugin.deviceListStrategy | default "")) }}
{{- $devices = append $devices ($plugin.passDeviceSpecs | default false) }}
{{- end }}
{{- if has "mig" $uses }}{{ $mig = append $mig "mixed" }}{{ end }}
{{- if has "cdi" $uses }}{{ $lists = append $lists "cdi-cri" }}{{ end }}
{{- if has "volume-mounts" $uses }}{{ $lists = append $lists "volume-mounts" }}{{ end }}
{{- if has "devices" $uses }}{{ $devices = append $devices true }}{{ end }}
{{- with .Values.migStrategy }}{{ $mig = list . }}{{ end }}
{{- with .Values.deviceListStrategy }}{{ $lists = list (include "gpu-sharing-plugin.commas" .) }}{{ end }}
{{- if not (kindIs "invalid" .Values.compatWithCPUManager) }}{{ $devices = list .Values.compatWithCPUManager }}{{ end }}
{{- $needs := list }}
{{- if without $mig "none" }}{{ $needs = append $needs "mig" }}{{ end }}
{{- if contains "cdi-" (join "," $lists) }}{{ $needs = append $needs "cdi" }}{{ end }}
{{- if contains "volume-mounts" (join "," $lists) }}{{ $needs = append $needs "volume-mounts" }}{{ end }}
{{- if has true $devices }}{{ $needs = append $needs "devices" }}{{ end }}
{{- join " " $needs }}
{{- end }}

{{/*
The fewest rights that work; docs/security.md has the table. Privileged for device nodes: the kubelet's CPU manager
takes them from other containers; for CDI without NVIDIA's runtime: only a privileged container has the host's devices.
SYS_ADMIN for MIG and volume-mounts: NVIDIA's runtime shows a container all MIG instances only with it, and can be
configured to refuse the mounts without it.
*/}}
{{- define "gpu-sharing-plugin.rights" -}}
{{- $needs := splitList " " (include "gpu-sharing-plugin.needs" .) }}
{{- if or (has "devices" $needs) (and (has "cdi" $needs) (not .Values.runtimeClassName)) }}privileged
{{- else if or (has "mig" $needs) (has "volume-mounts" $needs) }}SYS_ADMIN
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.securityContext" -}}
{{- $rights := include "gpu-sharing-plugin.rights" . }}
{{- if .Values.securityContext }}
{{- toYaml .Values.securityContext }}
{{- else if eq $rights "privileged" -}}
privileged: true
readOnlyRootFilesystem: true
{{- else if eq $rights "SYS_ADMIN" -}}
capabilities:
  drop: [ALL]
  add: [SYS_ADMIN]
readOnlyRootFilesystem: true
seccompProfile:
  type: RuntimeDefault
{{- else -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- end }}

{{/* Why an image cannot be run by this chart; empty: it may be. The argument is the value `image`. */}}
{{- define "gpu-sharing-plugin.problemOfImage" -}}
{{- $name := .repository }}
{{- $path := regexReplaceAll "^[^/]*[:.][^/]*/" $name "" }}
{{- if regexMatch "(^|/)(k8s-device-plugin|gpu-feature-discovery)$" $name -}}
cannot use image.repository {{ quote $name }}: that is NVIDIA's image, which has other commands. Remove image.repository and image.tag, which are left of NVIDIA's values, or write the repository of your gpu-sharing-plugin image
{{- else if contains "://" $name -}}
cannot use image.repository {{ quote $name }}: write it without {{ regexFind "^.*://" $name }}
{{- else if contains "@" $name -}}
cannot use image.repository {{ quote $name }}: write {{ regexFind "@.*$" $name | trimPrefix "@" }} into image.digest instead
{{- else if contains ":" $path -}}
cannot use image.repository {{ quote $name }}: write {{ regexFind ":[^:]*$" $path | trimPrefix ":" }} into image.tag instead
{{- else if not (regexMatch "^[a-z0-9]+([._/-]+[a-z0-9]+)*$" $path) -}}
cannot use image.repository {{ quote $name }}: container runtimes accept lower-case letters, digits, and . _ - / between them
{{- else if not (regexMatch "^(sha256:[0-9a-f]{64})?$" .digest) -}}
cannot use image.digest {{ quote .digest }}: write sha256: and 64 hexadecimal digits
{{- end }}
{{- end }}

{{/*
Why a flag or variable cannot be given beside the values; empty: it may be. dict "flags" FLAGS "variables" VARIABLES.
The chart gives the pod its rights, mounts and probes by the values, and would not know.
*/}}
{{- define "gpu-sharing-plugin.problemOfExtras" -}}
{{- $instead := dict
  "mig-strategy" "migStrategy"
  "device-list-strategy" "deviceListStrategy"
  "pass-device-specs" "compatWithCPUManager"
  "driver-root" "nvidiaDriverRoot"
  "nvidia-driver-root" "nvidiaDriverRoot"
  "mps-root" "mps.root"
  "metrics-address" "metrics.port"
  "node-events" "events.enabled"
  "node-condition" "nodeCondition.enabled"
  "node-taint" "nodeTaint.enabled"
  "node-labels" "nodeLabels.output"
  "dra-check" "draCheck.enabled"
  "state-dir" "stateDir"
  "device-plugin-path" "devicePluginDir"
  "simulated-node" "simulatedNode"
}}
{{- $given := list }}
{{- range .flags }}{{ $given = append $given (list "extraArgs" (regexReplaceAll "=.*$" . "") (regexReplaceAll "=.*$" . "" | trimPrefix "--")) }}{{ end }}
{{- range .variables }}{{ $given = append $given (list "extraEnv" .name (.name | lower | replace "_" "-")) }}{{ end }}
{{- $problem := "" }}
{{- range $given }}
{{- $value := get $instead (last .) }}
{{- if and $value (not $problem) }}{{ $problem = printf "cannot use %s in %s: the chart would not give the pod what it needs for that; write the value %s instead" (index . 1) (first .) $value }}{{ end }}
{{- end }}
{{- $problem }}
{{- end }}

{{/* Why a memory limit, a quantity of Kubernetes, is too low; empty: it is not, or there is none. */}}
{{- define "gpu-sharing-plugin.problemOfMemory" -}}
{{- $text := toString . }}
{{- $units := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 }}
{{- $unit := regexFind "[a-zA-Z]*$" $text }}
{{- if and $text (hasKey $units $unit) }}
{{- if lt (mulf (float64 (trimSuffix $unit $text)) (get $units $unit)) 134217728.0 -}}
{{ quote $text }}: the service needs up to 128Mi, and more with many replicas; write at least 128Mi, or remove the limit
{{- end }}
{{- end }}
{{- end }}

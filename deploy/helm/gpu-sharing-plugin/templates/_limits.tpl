{{/* Why an image cannot be run by this chart; empty: it may be. */}}
{{- define "gpu-sharing-plugin.problemOfImage" -}}
{{- if regexMatch "(^|/)(k8s-device-plugin|gpu-feature-discovery)$" . -}}
cannot use image.repository {{ quote . }}: that is NVIDIA's image, which has other commands. Remove image.repository and image.tag, which are left of NVIDIA's values, or write the repository of your gpu-sharing-plugin image
{{- end }}
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

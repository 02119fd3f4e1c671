{{/* How Prometheus scrapes: dict "root" $ "monitor" VALUES-OF-THE-MONITOR. */}}
{{- define "gpu-sharing-plugin.endpoint" -}}
{{- $metrics := .root.Values.metrics }}
- port: metrics
  # Keeps the label pod for the pod that holds a device, instead of exported_pod.
  honorLabels: true
  {{- if $metrics.tls.secret }}
  scheme: https
  tlsConfig:
    {{- include "gpu-sharing-plugin.tlsConfig" .root | nindent 4 }}
  {{- end }}
  {{- with $metrics.tokenSecret }}
  {{- if .name }}
  authorization:
    credentials:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
  {{- end }}
  {{- end }}
  {{- with .monitor.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .monitor.relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .monitor.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* By default the certificate names the Service, as cert-manager's users write it, whatever the pod's address is. */}}
{{- define "gpu-sharing-plugin.tlsConfig" -}}
{{- with .Values.metrics.tls.config }}
{{- toYaml . }}
{{- else -}}
ca:
  secret:
    name: {{ .Values.metrics.tls.secret | quote }}
    key: ca.crt
serverName: {{ printf "%s-metrics.%s.svc" (include "gpu-sharing-plugin.fullname" .) (include "gpu-sharing-plugin.namespace" .) | quote }}
{{- end }}
{{- end }}

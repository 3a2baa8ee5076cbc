// The page's words in each language; what is missing in one is said in English.

const en = {
  skip: "To the content", tagline: "Vectors and labels of texts, and why.",
  language: "Language", theme: "Colours", theme_system: "As the system", theme_light: "Light",
  theme_dark: "Dark", key: "API key", panels: "Panels",
  tab_explain: "Sentiment", tab_similarity: "Similarity", tab_models: "Models", tab_live: "Live",
  noscript: "This page needs JavaScript. The routes are described under /docs.",
  explain_text: "A text", model: "Model", label: "Label", likeliest: "the likeliest",
  explain_go: "Explain", legend_for: "speaks for it", legend_against: "speaks against it",
  scores: "Scores", weights: "Weights in numbers", word: "words", weight: "weight",
  interaction: "together more than apart",
  verdict: "{label}, {percent}", verdict_value: "{label}: {value}",
  truncated: "The model reads no more than its first {tokens} tokens; the rest has no weight.",
  deletion: "Without {words} it would be {label} ({percent}).",
  no_deletion: "No few words were found that it would take to change the label.",
  completeness: "All words together move the log-odds by {total}; the weights add up to {sum}. "
    + "The gap of {gap} is what words say together or twice.",
  value_completeness: "All words together move the value by {total}; the weights add up to {sum}.",
  similarity_texts: "Texts, one a line", similarity_query: "Look for, if you like",
  similarity_go: "Compare", nearest: "Nearest", alike: "How alike they are",
  too_few: "Write at least one text.", text: "text",
  served: "What is served", version: "version", task: "task", labels: "labels",
  dimensions: "dimensions", reads: "reads", tokens: "{count} tokens", digest: "digest",
  card: "Card", report: "Report", hidden_reports: "Cards and reports are hidden on this server.",
  now: "At this moment", requests: "Requests a second", texts: "Texts a second",
  p50: "Half are answered within", p99: "99 of 100 within", queue: "Texts waiting",
  fill: "Texts in a batch", padding: "Padding", workers: "Workers busy",
  live_note: "Every two seconds, from /metrics of this server; quantiles are of the last half minute.",
  docs: "All routes", request: "The request", copy: "Copy", copied: "Copied",
  unreachable: "The server does not answer: is it running?", no_model: "No such model is served.",
  ms: "{value} ms", none: "none yet",
};

const zh = {
  skip: "跳到正文", tagline: "文本的向量与标签，以及原因。",
  language: "语言", theme: "配色", theme_system: "跟随系统", theme_light: "浅色", theme_dark: "深色",
  key: "API 密钥", panels: "面板",
  tab_explain: "情感", tab_similarity: "相似度", tab_models: "模型", tab_live: "实时",
  noscript: "本页需要 JavaScript。接口说明见 /docs。",
  explain_text: "一段文本", model: "模型", label: "标签", likeliest: "最可能的",
  explain_go: "解释", legend_for: "支持该标签", legend_against: "反对该标签",
  scores: "得分", weights: "权重数值", word: "词", weight: "权重", interaction: "合起来多出的作用",
  verdict: "{label}，{percent}", verdict_value: "{label}：{value}",
  truncated: "模型只读前 {tokens} 个词元，其余部分没有权重。",
  deletion: "去掉 {words} 之后，标签会变成 {label}（{percent}）。",
  no_deletion: "没有找到去掉少数几个词就能改变标签的办法。",
  completeness: "所有词合起来使对数几率变化 {total}，各权重之和为 {sum}；差额 {gap} 来自词与词的配合或重复。",
  value_completeness: "所有词合起来使数值变化 {total}，各权重之和为 {sum}。",
  similarity_texts: "文本，每行一条", similarity_query: "要查找的内容（可不填）",
  similarity_go: "比较", nearest: "最接近的", alike: "彼此有多相似",
  too_few: "请至少写一条文本。", text: "文本",
  served: "正在服务的模型", version: "版本", task: "任务", labels: "标签", dimensions: "维数",
  reads: "可读", tokens: "{count} 个词元", digest: "摘要",
  card: "模型卡", report: "报告", hidden_reports: "本服务器不公开模型卡和报告。",
  now: "此刻", requests: "每秒请求", texts: "每秒文本", p50: "一半请求不超过", p99: "百分之九十九不超过",
  queue: "等待中的文本", fill: "每批文本", padding: "填充占比", workers: "忙碌的工作线程",
  live_note: "每两秒从本服务器的 /metrics 读取；分位数取最近半分钟。",
  docs: "全部接口", request: "对应的请求", copy: "复制", copied: "已复制",
  unreachable: "服务器没有应答：它在运行吗？", no_model: "没有这样的模型在服务。",
  ms: "{value} 毫秒", none: "暂无",
};

const LANGUAGES = { en, zh };
let chosen = navigator.language.startsWith("zh") ? "zh" : "en";

export function language() {
  return chosen;
}

// What is said under `name`, with its {places} filled.
export function t(name, places = {}) {
  const said = LANGUAGES[chosen][name] ?? en[name];
  return said.replace(/\{(\w+)\}/g, (_, place) => places[place]);
}

export function speak(name) {
  chosen = name in LANGUAGES ? name : "en";
  document.documentElement.lang = chosen === "zh" ? "zh-Hans" : chosen;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
}

export function number(value, digits = 2) {
  return value.toLocaleString(language(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function percent(share) {
  return share.toLocaleString(language(), { style: "percent", maximumFractionDigits: 1 });
}

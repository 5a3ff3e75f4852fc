"""Words that take back, doubt or change what they stand beside, in the languages that replies come in."""

import re

NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|isnt|arent|except|excluding|without|wrong|incorrect|false|impossible|untrue|no"
    r"|unlike|unequal|differs?|different|(?:anything|all|everything|nothing) but|(?:other|rather) than|instead of"
    r"|far from|kein|nicht|pas)\b|n't\b|≠|不|非|[未没無错誤误]|除了?",
    re.IGNORECASE,
)
DOUBT = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|might|could|may be|between|unsure|uncertain|guess(?:ing)?|oder|ou"
    r"|alternatively|at least|at most|(?:more|less|fewer|greater) than|up to|over|under|above|below|nearly|almost"
    r"|within|from|minus|negative|opposite|reciprocal|inverse|absolute|half|third|twice|double|triple|quarter|out of"
    r"|times|square of|squared|root|cube of|product|sum of|difference|percent of|multiple|log|ln|sin|cos|tan|sqrt"
    r"|factorial|dozen|million|thousand|hundred|billion)\b|[±<>≤≥√^!∪~]"
    r"|或|也许|可能|大概|至少|至多|超过|不到|一半|之间",
    re.IGNORECASE,
)

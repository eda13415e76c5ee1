"""Reads what a prompt wants drawn: time of day, places, weather, figures, colours and moods, in seven languages."""

from __future__ import annotations

import re
from dataclasses import dataclass

TIMES = """
night: night midnight nocturnal moonlight moonlit noche nuit nacht nachts ночь ночью ночи ночной 夜 晚上 月光 月下
night: 夜晚
sunset: sunset dusk evening twilight golden atardecer ocaso crépuscule couchant soir sonnenuntergang abend закат
sunset: заката закате вечер вечером 夕 日落 黄昏 傍晚
dawn: dawn sunrise morning amanecer alba aube matin sonnenaufgang morgen рассвет рассвете утро утром 朝 日出 黎明
dawn: 清晨 早晨
day: day daylight noon sunny summer spring día mediodía verano jour soleil été tag sonnig sommer день лето солнечный
day: 昼 白天 晴 夏 春
"""
PLACES = """
sea: sea ocean beach coast shore lake river waves island harbor harbour mar océano playa lago mer océan plage lac
sea: meer strand see море моря океан океане озеро озере 海 湖 浜 沙滩 波
mountains: mountain mountains alps peak peaks valley fuji montaña montañas montagne montagnes berg berge gebirge
mountains: горы гора горах 山 峰
city: city skyline street streets downtown skyscraper skyscrapers tokyo york cyberpunk urban ciudad calle ville rue
city: stadt straße город городе улица 城市 街 都市
forest: forest woods woodland jungle bosque selva forêt wald лес лесу 森 林
desert: desert dunes dune sahara canyon desierto désert wüste пустыня пустыне 沙漠 砂漠
space: space galaxy universe cosmos cosmic planet nebula astronaut espacio galaxia espace galaxie weltraum космос
space: космосе галактика 宇宙 太空 星系 銀河
garden: garden meadow field park jardín prado jardin pré garten wiese сад саду поле луг 花园 庭 草原 公园
roof: roof rooftop rooftops roofs tejado toit toits dach dächer крыша крыше 屋顶 屋根
deep: underwater reef coral aquarium submarine submarino récif unterwasser подводный 海底 水下 水中
abstract: abstract geometric pattern abstracto abstrait abstrakt абстракция абстрактный 抽象
"""
WEATHER = """
snow: snow snowy winter frozen ice icy blizzard christmas nieve invierno neige hiver schnee winter снег снегу зима
snow: зимой зимний снежный 雪 冬 冰
rain: rain rainy storm wet lluvia pluie regen дождь дождём 雨
fog: fog foggy mist misty haze niebla brume nebel туман 雾 霧
stars: star stars starry estrellas étoiles étoilée sterne звёзды звездами звезды 星
autumn: autumn fall otoño automne herbst осень 秋
"""
FIGURES = """
cat: cat cats kitten gato gata chat chatte katze kater кошка кот котёнок 猫 貓 ネコ ねこ
fox: fox foxes zorro renard fuchs лиса лис 狐
dog: dog dogs puppy perro chien hund собака щенок пёс 狗 犬 いぬ
rabbit: rabbit bunny hare conejo lapin hase kaninchen кролик заяц 兔 うさぎ
bear: bear bears panda oso ours bär медведь 熊 パンダ
owl: owl owls búho hibou eule сова 猫头鹰 梟 フクロウ
bird: bird birds seagull seagulls gull crow swallow pájaro pájaros oiseau oiseaux vogel vögel птица птицы 鸟 鳥
fish: fish fishes goldfish pez poisson fisch рыба 鱼 魚
whale: whale dolphin ballena baleine wal кит 鲸 鯨 クジラ
butterfly: butterfly butterflies mariposa papillon schmetterling бабочка 蝴蝶 蝶
boat: boat sailboat sailing ship yacht barco velero bateau voilier boot schiff segelboot лодка корабль парусник 船
boat: 舟 帆
house: house cabin cottage home hut casa maison haus hütte дом 房 屋子 家
tree: tree oak árbol arbre baum дерево 树 木
flower: flower flowers rose tulip flor flores fleur fleurs blume blumen цветок цветы 花
robot: robot android mech роботы робот 机器人 ロボット
balloon: balloon balloons globo montgolfière ballon шар 气球 気球
castle: castle palace tower castillo château schloss burg замок 城堡 お城
person: person man woman girl boy child people knight astronaut wizard hombre mujer niña homme femme fille mann frau
person: mädchen человек девушка мужчина 人 女孩 男孩 少女
lighthouse: lighthouse faro phare leuchtturm маяк 灯塔 灯台
rocket: rocket spaceship spacecraft cohete fusée rakete ракета 火箭 ロケット
moon: moon luna lune mond луна 月
sun: sun sol sonne солнце 太阳 太陽
"""
COLOURS = """
red: red crimson scarlet rojo roja rouge rot rote красный красная 红 赤
orange: orange amber naranja orangefarben оранжевый рыжая 橙
yellow: yellow gold golden amarillo jaune gelb жёлтый 黄 金色
green: green emerald verde vert verte grün зелёный 绿 緑
teal: teal turquoise cyan turquesa türkis бирюзовый 青绿
blue: blue azure azul bleu bleue blau синий голубой 蓝 青
purple: purple violet lavender morado violeta lila фиолетовый 紫
pink: pink magenta rosa розовый 粉
"""
MOODS = """
joy: joy happy joyful cheerful love hope celebration alegría joie bonheur freude glück радость счастье 快乐 喜悦
joy: 喜び 幸福
calm: calm peace peaceful serene quiet zen silence dream dreamy calma paz calme paix ruhe frieden покой тишина 平静
calm: 静 夢 梦
sad: sad sadness lonely melancholy grief alone triste tristesse traurig einsam грусть печаль 悲 孤独
fierce: fire anger fierce war volcano lava energy fuego feu feuer огонь 火 怒
neon: neon cyberpunk synthwave vaporwave futuristic neón néon неон неоновый 霓虹 ネオン
pastel: pastel soft gentle cute kawaii suave doux sanft нежный 可爱
vintage: vintage retro old sepia antique antiguo ancien alt старый 复古
"""
WIDE = re.compile(r"[\u2e80-\u9fff\u3040-\u30ff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True)
class Brief:
    """What the words of a prompt ask for, each in the order of the words."""

    times: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    weather: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()


def _table(text: str) -> dict[str, str]:
    lines = (line.split(":", 1) for line in text.strip().splitlines())
    return {word: idea for idea, words in lines for word in words.split()}


TABLES = tuple(_table(text) for text in (TIMES, PLACES, WEATHER, FIGURES, COLOURS, MOODS))


def read_brief(prompt: str, unwanted: str = "") -> Brief:
    """Find the known words of *prompt*, without those of *unwanted*."""
    found = (_found(prompt.casefold(), table) for table in TABLES)
    avoided = (_found(unwanted.casefold(), table) for table in TABLES)
    return Brief(*(tuple(i for i in ideas if i not in no) for ideas, no in zip(found, avoided, strict=True)))


def _found(text: str, table: dict[str, str]) -> tuple[str, ...]:
    """Give the ideas of *table* in *text*: whole words, and parts of text in scripts that put no spaces."""
    places: dict[str, int] = {}
    for match in re.finditer(r"[^\W\d_]+", text):
        word = match[0]
        idea = table.get(word) or table.get(word.removesuffix("s")) or table.get(word.removesuffix("y"))
        if idea and not WIDE.search(word):
            places.setdefault(idea, match.start())
    if WIDE.search(text):
        taken = [False] * len(text)
        for word in sorted((word for word in table if WIDE.search(word)), key=len, reverse=True):
            at = text.find(word)
            if at >= 0 and not any(taken[at : at + len(word)]):
                taken[at : at + len(word)] = [True] * len(word)
                places.setdefault(table[word], at)
    return tuple(sorted(places, key=lambda idea: places[idea]))

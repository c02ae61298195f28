"""Where the households spend: shops and recurring bills by country, with the banks' own way of writing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Shop:
    """A merchant: ``text`` is the descriptor (``#`` becomes a digit), prices are in minor units."""

    name: str
    text: str
    detailed: str
    low: int
    high: int
    channel: str = "in store"
    tips: bool = False
    website: str | None = None


@dataclass(frozen=True)
class Bill:
    """A recurring payment. ``season`` is the share by which it swings over the year, ``cents`` the usual amount."""

    name: str
    text: str
    detailed: str
    day: int
    cents: int
    season: float = 0.0
    channel: str = "online"
    website: str | None = None


@dataclass(frozen=True)
class Country:
    """``scale``: minor units in one unit of the currency. ``salary`` in minor units, paid on days 1 and 15."""

    shops: tuple[Shop, ...]
    bills: tuple[Bill, ...]
    employer: str
    salary: int
    scale: int = 100


_FOOD = "FOOD_AND_DRINK_GROCERIES"
_EATING = "FOOD_AND_DRINK_RESTAURANT"
_COFFEE = "FOOD_AND_DRINK_COFFEE"
_FUEL = "TRANSPORTATION_GAS"
_TRAIN = "TRANSPORTATION_PUBLIC_TRANSIT"
_GOODS = "GENERAL_MERCHANDISE_ONLINE_MARKETPLACES"
_HEALTH = "MEDICAL_PHARMACIES_AND_SUPPLEMENTS"
_POWER = "RENT_AND_UTILITIES_GAS_AND_ELECTRICITY"
_RENT = "RENT_AND_UTILITIES_RENT"
_PHONE = "RENT_AND_UTILITIES_TELEPHONE"
_NET = "RENT_AND_UTILITIES_INTERNET_AND_CABLE"
_TV = "ENTERTAINMENT_TV_AND_MOVIES"
_MUSIC = "ENTERTAINMENT_MUSIC_AND_AUDIO"
_GYM = "PERSONAL_CARE_GYMS_AND_FITNESS_CENTERS"
_INSURANCE = "GENERAL_SERVICES_INSURANCE"

_US = Country(
    (
        Shop("Whole Foods Market", "WHOLEFDS MKT #####", _FOOD, 900, 14000),
        Shop("Trader Joe's", "TRADER JOE S #### QPS", _FOOD, 1200, 9000),
        Shop("Blue Door Diner", "TST* BLUE DOOR DINER", _EATING, 1400, 7800, tips=True),
        Shop("Corner Roast Coffee", "SQ *CORNER ROAST COFFEE", _COFFEE, 320, 1400, tips=True),
        Shop("Shell", "SHELL OIL ##########", _FUEL, 1800, 7200, tips=True),
        Shop("Amazon", "AMZN Mktp US*######", _GOODS, 700, 18000, "online", website="amazon.com"),
        Shop("CVS Pharmacy", "CVS/PHARMACY #0####", _HEALTH, 500, 6000),
        Shop("City Metro", "CITY METRO TRANSIT ###", _TRAIN, 275, 3300),
    ),
    (
        Bill("Netflix", "NETFLIX.COM 866-579-7172 CA", _TV, 12, 1549, website="netflix.com"),
        Bill("Spotify", "SPOTIFY USA ########", _MUSIC, 19, 1199, website="spotify.com"),
        Bill("Tri-County Electric", "TRI-COUNTY ELEC WEB PAY ########", _POWER, 8, 11800, 0.35),
        Bill("Lakeside Apartments", "LAKESIDE APTS RENT ACH", _RENT, 1, 185000, channel="other"),
        Bill("Verizon", "VZWRLSS*APOCC VISB", _PHONE, 22, 9240, website="verizon.com"),
        Bill("Xfinity", "COMCAST CABLE COMM 800-COMCAST", _NET, 26, 8999, website="xfinity.com"),
        Bill("Planet Fitness", "PLANET FIT CLUB FEES", _GYM, 17, 2499),
        Bill("State Farm", "STATE FARM RO 27 CPC-CLIENT", _INSURANCE, 5, 14120, channel="other"),
    ),
    "BRIGHTWATER DESIGN PAYROLL",
    245000,
)
_CA = Country(
    (
        Shop("Metro", "METRO #### MONTRÉAL QC", _FOOD, 1100, 13000),
        Shop("Café Olimpico", "SQ *CAFÉ OLIMPICO", _COFFEE, 380, 1500, tips=True),
        Shop("Canadian Tire", "CDN TIRE STORE #0###", "GENERAL_MERCHANDISE_OTHER_GENERAL_MERCHANDISE", 900, 16000),
        Shop("Petro-Canada", "PETRO-CANADA #####", _FUEL, 2500, 9000, tips=True),
        Shop("Chez Étienne", "CHEZ ÉTIENNE BISTRO", _EATING, 1800, 9500, tips=True),
    ),
    (
        Bill("Hydro-Québec", "HYDRO-QUEBEC PAIEMENT ####", _POWER, 14, 9600, 0.45),
        Bill("Loyer", "VIREMENT INTERAC LOYER", _RENT, 1, 164000, channel="other"),
        Bill("Bell Canada", "BELL CANADA ONE BILL", _NET, 21, 10450),
        Bill("Netflix", "NETFLIX.COM", _TV, 9, 2099, website="netflix.com"),
    ),
    "COOP DES ÉRABLES PAIE",
    221000,
)
_JP = Country(
    (
        Shop("ライフ", "ライフ ####テン", _FOOD, 700, 9000),
        Shop("セブン-イレブン", "セブン-イレブン #####", _FOOD, 150, 2600),
        Shop("喫茶さくら", "キツサ サクラ", _COFFEE, 450, 1500),
        Shop("東日本旅客鉄道", "モバイルスイカ チャージ", _TRAIN, 1000, 5000, "online"),
        Shop("楽天市場", "ラクテン ########", _GOODS, 900, 22000, "online"),
    ),
    (
        Bill("関西電力", "カンサイデンリヨク デンキ", _POWER, 16, 8400, 0.4, "other"),
        Bill("大阪ガス", "オオサカガス", _POWER, 27, 5700, 0.45, "other"),
        Bill("KDDI", "ケイデイデイアイ リヨウキン", _PHONE, 10, 7480, channel="other"),
        Bill("家賃", "ヤチン フドウサン", _RENT, 27, 96000, channel="other"),
        Bill("Netflix", "NETFLIX.COM", _TV, 5, 1590, website="netflix.com"),
    ),
    "カ)ミドリコウギヨウ キユウヨ",
    186000,
    1,
)
_AE = Country(
    (
        Shop("كارفور", "كارفور هايبر ماركت ####", _FOOD, 2500, 48000),
        Shop("مقهى النخيل", "مقهى النخيل دبي", _COFFEE, 1400, 6500, tips=True),
        Shop("أدنوك", "ADNOC محطة ####", _FUEL, 6000, 21000, tips=True),
        Shop("Noon", "NOON.COM ######", _GOODS, 3000, 60000, "online", website="noon.com"),
    ),
    (
        Bill("هيئة كهرباء ومياه دبي", "DEWA هيئة كهرباء ومياه دبي", _POWER, 11, 61000, 0.5),
        Bill("اتصالات", "ETISALAT اتصالات فاتورة", _NET, 20, 38900),
        Bill("إيجار الشقة", "تحويل إيجار الشقة", _RENT, 1, 550000, channel="other"),
    ),
    "شركة الأفق للتصميم راتب",
    900000,
)
_DE = Country(
    (
        Shop("Edeka", "EDEKA MÜLLER SAGT DANKE ####", _FOOD, 600, 9800),
        Shop("Bäckerei Löwe", "BÄCKEREI LÖWE//KÖLN/DE", _COFFEE, 250, 1400),
        Shop("Aral", "ARAL TANKSTELLE ####", _FUEL, 2200, 9500, tips=True),
        Shop("Deutsche Bahn", "DB VERTRIEB GMBH ######", _TRAIN, 290, 12900, "online"),
    ),
    (
        Bill("Stadtwerke", "STADTWERKE ABSCHLAG STROM ########", _POWER, 8, 8400, 0.2, "other"),
        Bill("Telekom", "TELEKOM DEUTSCHLAND GMBH FESTNETZ", _NET, 11, 3995, channel="other"),
        Bill("Miete", "DAUERAUFTRAG MIETE WEBERSTR", _RENT, 1, 98000, channel="other"),
        Bill("Spotify", "SPOTIFY P########", _MUSIC, 18, 1099, website="spotify.com"),
    ),
    "WERKSTATT ALT UND NEU GMBH GEHALT",
    198000,
)
_GB = Country(
    (
        Shop("Tesco", "TESCO STORES ####", _FOOD, 400, 9000),
        Shop("Pret A Manger", "PRET A MANGER LONDON", _COFFEE, 295, 1200),
        Shop("Transport for London", "TFL TRAVEL CH", _TRAIN, 280, 1570),
        Shop("The Fox & Anchor", "FOX AND ANCHOR", _EATING, 900, 6800, tips=True),
    ),
    (
        Bill("Octopus Energy", "OCTOPUS ENERGY DD", _POWER, 13, 12800, 0.3, "other"),
        Bill("Sky TV", "SKY DIGITAL DD", _TV, 4, 4600, channel="other"),
        Bill(
            "Council Tax", "LB CAMDEN COUNCIL TAX", "GOVERNMENT_AND_NON_PROFIT_TAX_PAYMENT", 1, 16400, channel="other"
        ),
        Bill("EE", "EE LIMITED DD", _PHONE, 21, 3200, channel="other"),
    ),
    "HARGREAVE & SONS SALARY",
    210000,
)

COUNTRIES: Mapping[str, Country] = MappingProxyType({"US": _US, "CA": _CA, "JP": _JP, "AE": _AE, "DE": _DE, "GB": _GB})

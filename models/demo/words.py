"""Words and small facts that the generated stories and conversations draw on, and the expander of their templates."""
import re

GIRLS = """Lily Mia Anna Emma Sara Zoe Lucy Nora Ella Ruby Rosa Ivy Clara Molly Hana Tess Maya Nina Alice Grace Daisy Eva
Jane Kate Leah Amy Sue Maria Olga Pia Rita Vera Wendy Yuki Leila Amira Ada Betty""".split()
BOYS = """Tom Ben Max Sam Leo Tim Jack Finn Noah Oscar Paul Peter Hugo Theo Luke Owen Adam Carlos David Eli Felix George
Henry Ivan Jonas Karl Liam Mark Nick Omar Pedro Ravi Simon Toby Victor Will Yusuf Zack Ali Bob""".split()
PETS = """Pip Momo Nibbles Coco Biscuit Patch Rusty Poppy Fuzzy Sunny Dusty Pepper Honey Button Bubbles Snowy Ginger Tuck
Bramble Hazel Mossy Pebble Twig Clover Acorn Juniper Maple Olive Peanut Waffles Ziggy Bobo Dot Fern Kiki Lulu""".split()
# Kind, the sound it makes, its young, where it lives, what it likes to eat, its legs, what it can do well.
ANIMALS = [
    ("cat", "meow", "kitten", "in a house", "fish", 4, "climb"), ("dog", "woof", "puppy", "in a house", "bones", 4, "run"),
    ("cow", "moo", "calf", "on a farm", "grass", 4, "give milk"), ("duck", "quack", "duckling", "by a pond", "bread", 2, "swim"),
    ("sheep", "baa", "lamb", "on a farm", "grass", 4, "grow wool"), ("horse", "neigh", "foal", "in a stable", "hay", 4, "run"),
    ("pig", "oink", "piglet", "on a farm", "corn", 4, "dig"), ("hen", "cluck", "chick", "in a coop", "seeds", 2, "lay eggs"),
    ("frog", "ribbit", "tadpole", "by a pond", "flies", 4, "jump"), ("bird", "tweet", "chick", "in a nest", "worms", 2, "fly"),
    ("lion", "roar", "cub", "in Africa", "meat", 4, "roar"), ("bear", "growl", "cub", "in the forest", "honey", 4, "climb"),
    ("mouse", "squeak", "pup", "in a hole", "cheese", 4, "hide"), ("owl", "hoot", "owlet", "in a tree", "mice", 2, "see at night"),
    ("bee", "buzz", "larva", "in a hive", "nectar", 6, "make honey"), ("goat", "bleat", "kid", "on a farm", "leaves", 4, "climb"),
    ("rabbit", "squeak", "kit", "in a burrow", "carrots", 4, "hop"), ("fox", "bark", "kit", "in a den", "berries", 4, "run"),
    ("wolf", "howl", "cub", "in the forest", "meat", 4, "howl"), ("donkey", "hee-haw", "foal", "on a farm", "hay", 4, "carry things"),
    ("elephant", "trumpet", "calf", "in Africa", "leaves", 4, "lift heavy things"), ("monkey", "chatter", "infant", "in the jungle", "bananas", 2, "climb"),
    ("squirrel", "chatter", "kit", "in a tree", "nuts", 4, "climb"), ("hedgehog", "snuffle", "hoglet", "under a hedge", "beetles", 4, "curl up"),
    ("turtle", "hiss", "hatchling", "near the water", "leaves", 4, "swim"), ("snake", "hiss", "snakelet", "in the grass", "mice", 0, "slither"),
    ("penguin", "honk", "chick", "on the ice", "fish", 2, "swim"), ("spider", "nothing", "spiderling", "in a web", "flies", 8, "spin webs"),
]
HERO_ANIMALS = "cat dog duck frog bear mouse owl rabbit fox squirrel hedgehog turtle penguin bird pig lamb kitten puppy elephant lion bee goat donkey monkey".split()
FANTASY = "dragon robot fairy giant ghost star cloud train boat snowman wizard mermaid elf".split()
ROYAL = ["princess", "prince", "king", "queen", "knight", "pirate", "farmer", "baker", "tailor", "fisherman", "sailor", "painter", "gardener", "teacher"]
LOOKS = "little small brave kind shy clever funny quiet happy curious gentle young friendly".split()
COLOURS = "red blue green yellow white black brown orange purple pink grey golden silver".split()
TOYS = "ball kite doll drum boat hat scarf book bell basket lamp box cup key coin ring flute spoon blanket umbrella bucket button mirror map whistle balloon".split()
FOODS = "apple pear cookie carrot sandwich banana pancake muffin bun plum peach nut".split()
MEALS = ["soup", "apple pie", "chocolate cake", "bread", "pancakes", "berry jam", "carrot soup", "cookies", "pizza", "porridge"]
PLACES = ["in the garden", "in the park", "in the forest", "by the river", "on the beach", "on the hill", "near the old mill",
          "in the meadow", "by the lake", "at the market", "behind the barn", "in the village", "by the pond", "on the farm"]
HOMES = ["in a small house near the forest", "in a little village by the sea", "on a farm with green fields", "in a tall house in the town",
         "in a cosy house under an old oak tree", "at the edge of a quiet lake", "in a white house on a hill", "in a town with many bridges",
         "beside a wide river", "in a warm valley", "at the end of a long road", "near a big blue lake"]
WEATHERS = ["sunny", "warm", "windy", "cold", "rainy", "cloudy", "bright", "foggy"]
COLOUR_OF = [("the sky on a clear day", "blue"), ("grass", "green"), ("snow", "white"), ("a banana", "yellow"), ("a lemon", "yellow"), ("a strawberry", "red"),
             ("a carrot", "orange"), ("coal", "black"), ("milk", "white"), ("a leaf in summer", "green"), ("chocolate", "brown"), ("a frog", "green"),
             ("blood", "red"), ("the sun", "yellow"), ("a ripe tomato", "red"), ("an elephant", "grey"), ("a flamingo", "pink"), ("a polar bear", "white"),
             ("a pumpkin", "orange"), ("a crow", "black"), ("a fire engine", "red"), ("cheese", "yellow"), ("salt", "white"), ("the sea", "blue")]
OPPOSITES = [("hot", "cold"), ("big", "small"), ("fast", "slow"), ("up", "down"), ("happy", "sad"), ("day", "night"), ("open", "closed"), ("old", "young"),
             ("wet", "dry"), ("hard", "soft"), ("full", "empty"), ("loud", "quiet"), ("light", "dark"), ("long", "short"), ("left", "right"), ("good", "bad"),
             ("early", "late"), ("rich", "poor"), ("strong", "weak"), ("near", "far"), ("high", "low"), ("inside", "outside"), ("begin", "end"), ("black", "white"),
             ("tall", "short"), ("clean", "dirty"), ("brave", "afraid"), ("awake", "asleep"), ("heavy", "light"), ("thick", "thin"), ("win", "lose"),
             ("yes", "no"), ("first", "last"), ("laugh", "cry"), ("push", "pull"), ("give", "take"), ("before", "after"), ("always", "never"), ("sweet", "sour"), ("deep", "shallow")]
RHYMES = ["cat hat bat mat rat", "dog fog log frog", "sun fun run bun", "tree bee see me", "house mouse", "light night bright kite", "day play say way", "moon spoon soon",
          "star car far jar", "cake lake snake make", "boat coat goat float", "king ring sing wing", "ball tall wall fall", "bear chair hair pear", "rain train again plane",
          "book cook look hook", "bed red head bread", "snow go slow know", "blue shoe new two", "fish wish dish", "well bell tell shell", "mice ice nice rice", "nose rose toes", "sheep sleep deep keep"]
LISTS = {"fruits": "apples pears bananas plums cherries grapes oranges peaches strawberries lemons", "vegetables": "carrots potatoes beans peas onions cabbages tomatoes pumpkins",
         "animals": "cats dogs horses lions bears rabbits elephants foxes mice sheep", "colours": "red blue green yellow orange purple white black",
         "birds": "owls robins ducks eagles penguins crows swans sparrows", "farm animals": "cows pigs sheep hens goats horses donkeys",
         "toys": "balls dolls kites drums blocks puzzles", "drinks": "water milk juice tea cocoa lemonade", "clothes": "shirts hats coats socks shoes scarves gloves",
         "things in a kitchen": "cups spoons plates forks pots bowls", "things in the sky": "stars clouds birds planes kites", "things that are round": "balls coins plates wheels oranges buttons",
         "things with wheels": "cars trains bikes buses carts", "musical instruments": "drums flutes pianos guitars violins trumpets", "flowers": "roses tulips daisies lilies sunflowers violets",
         "sea animals": "whales dolphins crabs sharks seals turtles", "insects": "bees ants beetles butterflies flies", "trees": "oaks pines maples birches willows",
         "things that are cold": "ice snow winter frost", "jobs": "teachers doctors farmers bakers cooks sailors painters", "things that can fly": "birds bees planes kites bats"}
CAPITALS = [("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome"), ("Spain", "Madrid"), ("England", "London"), ("Japan", "Tokyo"), ("China", "Beijing"), ("Russia", "Moscow"),
            ("Greece", "Athens"), ("Egypt", "Cairo"), ("Portugal", "Lisbon"), ("Austria", "Vienna"), ("Poland", "Warsaw"), ("Norway", "Oslo"), ("Sweden", "Stockholm"), ("India", "New Delhi"),
            ("Canada", "Ottawa"), ("Ireland", "Dublin"), ("Cuba", "Havana"), ("Kenya", "Nairobi"), ("the United States", "Washington"), ("Finland", "Helsinki"), ("Denmark", "Copenhagen"), ("Hungary", "Budapest")]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
# What kind of thing something is.
KINDS = [("rose", "flower"), ("tulip", "flower"), ("oak", "tree"), ("pine", "tree"), ("apple", "fruit"), ("pear", "fruit"), ("cherry", "fruit"), ("carrot", "vegetable"), ("potato", "vegetable"),
         ("eagle", "bird"), ("sparrow", "bird"), ("salmon", "fish"), ("shark", "fish"), ("ant", "insect"), ("beetle", "insect"), ("hammer", "tool"), ("saw", "tool"), ("piano", "musical instrument"),
         ("drum", "musical instrument"), ("chair", "piece of furniture"), ("table", "piece of furniture"), ("coat", "piece of clothing"), ("hat", "piece of clothing"), ("blue", "colour"), ("Monday", "day of the week"),
         ("July", "month"), ("winter", "season"), ("tea", "drink"), ("bus", "vehicle"), ("bike", "vehicle"), ("doll", "toy"), ("seven", "number"), ("triangle", "shape"), ("circle", "shape")]


def expand(rng, template, **names):
    """Chooses among {a|b|c}, innermost first, and puts names in for $name; then mends a/an and capitals after "^"."""
    while match := re.search(r"\{([^{}]*)\}", template):
        template = template[:match.start()] + rng.choice(match.group(1).split("|")) + template[match.end():]
    text = re.sub(r"\$(\w+)", lambda m: str(names[m.group(1)]), template)
    text = re.sub(r"\b([Aa]) (?=[aeiou](?!ne\b|ni|se[df]))", r"\1n ", text)
    text = re.sub(r"\^(\w)", lambda m: m.group(1).upper(), text)
    text = re.sub(r"(?m)^ +| +$", "", text)
    return re.sub(r" {2,}", " ", text).strip()

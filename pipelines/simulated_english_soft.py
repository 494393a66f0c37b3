"""English words of the simulated news site, second half: what a newspaper calls soft news.

The same layout as `pipelines.simulated_english_hard`.
"""

WORDS = """
[sports]
football: quarterbacks; NFL teams; wide receivers; gridiron rivals; linebackers
. throw late touchdowns; reach the Super Bowl; sack the passer; kick a winning field goal; run up the yards
. the playoffs; a goal-line stand; the draft; fourth down; the Monday night game
basketball: point guards; NBA stars; dunk artists; Lakers and Celtics; big men in the paint
. sink three-pointers; sweep the finals; score at the buzzer; grab rebounds; drain free throws
. a triple-double; March Madness; the hoop; overtime on the hardwood; a slam dunk
baseball: pitchers; the Yankees and Dodgers; sluggers; shortstops; big-league bats
. hit home runs; throw a no-hitter; win the World Series; steal second base; strike out the side
. spring training; the bullpen; extra innings; a curveball; the pennant race
soccer: strikers; Premier League clubs; World Cup squads; goalkeepers; midfielders
. score on a penalty; win the shootout; curl in a free kick; lift the Champions League trophy; shut out the visitors
. a late equalizer; the transfer window; a red card; the offside trap; stoppage time
tennis: racket stars; Wimbledon contenders; baseline players; grand slam champions; top seeds at the Open
. win in straight sets; serve aces; break at love; save match points; breeze into the semifinals
. clay-court season; a tiebreak; Roland Garros; a backhand volley; center court
golf: PGA players; Masters hopefuls; golfers; Ryder Cup captains; putting wizards
. sink birdies; drive down the fairway; make the cut; escape the bunker; shoot under par
. Augusta's greens; a hole in one; the back nine; the final putt; a green jacket

[arts]
movies: film directors; Hollywood studios; screen actors; box office giants; moviemakers
. shoot a blockbuster sequel; sweep the Oscars; premiere at Cannes; pack theaters; adapt a superhero comic
. opening weekend; the silver screen; an indie drama; an Academy Award; a science fiction epic
television: showrunners; streaming services; sitcom casts; Netflix and HBO; TV writers
. renew a hit series; binge a whole season; air the finale; reboot an old show; cancel a pilot
. prime-time drama; an Emmy; the next episode; cable subscriptions; reality contests
pop music: pop singers; chart toppers; Taylor Swift fans; rap artists; touring bands
. drop a surprise album; sell out stadiums; win a Grammy; release a single; headline festivals
. concert tickets; the Billboard chart; a hip-hop track; a catchy chorus; vinyl records
classical music: orchestras; conductors; opera singers; violinists; string quartets
. perform Beethoven; stage a Verdi revival; tune for the symphony; play Bach; premiere a concerto
. Carnegie Hall; a soprano's debut; chamber recitals; the philharmonic; a piano sonata
books: novelists; authors; publishers; poets; book club readers
. win the Pulitzer; write a memoir; top the bestseller list; pen a thriller; finish a debut story
. literary fiction; a paperback; the Booker shortlist; a new chapter; library shelves
visual art: painters; museum curators; sculptors; gallery owners; art collectors
. hang a Picasso; auction a masterpiece; restore a fresco; open a retrospective; bid on canvases
. an impressionist exhibition; modern sculpture; the Louvre; oil portraits; abstract works

[food]
baking: bakers; pastry chefs; bread lovers; cake decorators; sourdough fans
. knead dough; frost cupcakes; proof a loaf; roll out pie crust; pull cookies from the oven
. flour and yeast; chocolate chip treats; a birthday cake; flaky croissants; sweet tarts
restaurants: restaurateurs; diners; Michelin inspectors; fine-dining chefs; bistro owners
. open an eatery; book a tasting menu; earn a star; plate small dishes; tip their waiters
. brunch tables; a chef's counter; the dining room; a neighborhood trattoria; takeout orders
wine and spirits: winemakers; sommeliers; bartenders; vineyard owners; whiskey distillers
. uncork a vintage; age bourbon in barrels; mix cocktails; pour pinot noir; harvest grapes
. a Napa cabernet; a dry martini; Champagne toasts; craft gin; a cellar of Bordeaux
vegan cooking: vegans; plant-based cooks; meatless eaters; vegetarian families; tofu fans
. skip the meat; roast cauliflower; swap in lentils; blend cashew cream; simmer chickpeas
. leafy greens; a bean chili; dairy-free cheese; a vegetable stew; soy burgers
barbecue: pitmasters; grill owners; smokehouse cooks; backyard chefs; brisket lovers
. smoke ribs low and slow; sear steaks; fire up the charcoal; rub pork shoulder; flip burgers
. a rack of baby backs; hickory wood; a cookout; Texas beef; tangy sauce
coffee: baristas; espresso drinkers; coffee roasters; cafe owners; latte lovers
. grind beans; brew a stronger cup; steam milk; pull double shots; pour cold drip
. a morning caffeine fix; arabica harvests; cappuccino foam; a French press; dark roast

[travel]
beaches: sunbathers; Caribbean resorts; snorkelers; island vacationers; seaside hotels
. soak up the sun; dive on coral reefs; laze on white sand; swim in turquoise water; surf gentle waves
. a tropical getaway; Hawaii; the shore; palm-lined coast; a Mexican lagoon
european cities: visitors to Paris; Rome's tourists; city-break travelers; Old World sightseers; guests in Lisbon
. stroll cobbled streets; tour cathedrals; cruise the Seine; wander through piazzas; climb the Eiffel Tower
. a weekend in Barcelona; Venetian canals; London landmarks; medieval squares; Prague's castle
hiking and camping: hikers; backpackers; campers; national park visitors; trail walkers
. pitch tents; trek through Yosemite; climb switchbacks; sleep under the stars; follow the Appalachian path
. a mountain summit; backcountry permits; campfire nights; the great outdoors; sturdy boots
air travel: airlines; passengers; frequent flyers; pilots; airport crews
. cancel flights; shrink legroom; lose luggage; board delayed planes; hike baggage fees
. a long layover; security lines; first-class seats; jet lag; the departure gate
cruises: cruise lines; ship passengers; ocean liner captains; cabin guests; Royal Caribbean
. set sail for Alaska; dock at port; book balcony staterooms; glide past fjords; cross the Atlantic by sea
. the buffet deck; a river voyage; shore excursions; a mega-ship; the Norwegian coast
skiing: skiers; snowboarders; ski resorts; Aspen regulars; powder chasers
. carve fresh slopes; ride the chairlift; race downhill; groom the pistes; wax their boards
. deep snow; an alpine lodge; black diamond runs; lift tickets; the Rockies in winter

[home]
housing market: homebuyers; house hunters; property sellers; real estate agents; first-time owners
. outbid rivals; sign a mortgage; list their homes; haggle over closing costs; tour open houses
. soaring house prices; a down payment; home loans; a bidding war; the listing price
renting: tenants; landlords; apartment dwellers; roommates; lease holders
. fight eviction; raise the rent; split a studio; break a lease; sue over repairs
. rent control; a security deposit; monthly payments; a one-bedroom flat; affordable units
gardening: gardeners; tomato growers; rose lovers; landscapers; green thumbs
. plant bulbs; prune hedges; compost kitchen scraps; weed flower beds; sow seeds
. spring blossoms; raised beds; backyard soil; perennial borders; heirloom vegetables
interior design: decorators; interior designers; furniture makers; stylists; homeowners with taste
. paint the living room; hang wallpaper; pick velvet sofas; mix patterns; refresh tired rooms
. mid-century chairs; a color palette; cozy rugs; built-in shelves; a chandelier
renovation: contractors; carpenters; do-it-yourselfers; plumbers; remodelers
. gut the kitchen; tile a bathroom; fix leaky pipes; knock down walls; replace old roofs
. power tools; a basement makeover; hardwood floors; building permits; drywall dust
pets: dog owners; cat lovers; veterinarians; puppy trainers; animal shelters
. walk their hounds; adopt kittens; teach a retriever to sit; groom poodles; treat fleas
. a barking problem; feline habits; kibble and treats; a rescue mutt; a litter box

[family]
parenting: new mothers; dads; parents of toddlers; caregivers; stay-at-home moms
. soothe a crying baby; change diapers; set limits on tantrums; juggle day care; raise happy kids
. maternity leave; potty training; bedtime stories; the terrible twos; a newborn
schools: teachers; principals; public schools; classroom aides; school boards
. teach reading; grade homework; rewrite the curriculum; hire substitute staff; raise math scores
. standardized tests; kindergarten; the fall semester; phonics lessons; pupils' attendance
college: undergraduates; university deans; college applicants; professors; campus leaders
. repay student loans; apply to the Ivy League; raise tuition; write admissions essays; lecture to freshmen
. a bachelor's degree; dormitory life; SAT results; financial aid; graduation
weddings: brides; grooms; wedding planners; engaged couples; newlyweds
. exchange vows; pick a bouquet; say I do; cut the guest list; walk down the aisle
. the white dress; a marriage proposal; the honeymoon; diamond rings; a rehearsal dinner
aging: retirees; older Americans; seniors; grandparents; nursing home residents
. draw Social Security; delay retirement; save their pensions; guard against dementia; move to assisted living
. Medicare; golden years; Alzheimer's; a 401(k); elder care
fashion: designers; runway models; fashion houses; sneaker collectors; couture tailors
. show spring dresses; cut slim suits; stitch handbags; mix denim with silk; walk the catwalk
. Paris couture; vintage jackets; high heels; the fall wardrobe; a luxury label

[local]
crime: detectives; police officers; burglars; homicide investigators; suspects
. solve a murder; arrest a gunman; rob a jewelry store; hunt for the killer; search the crime scene
. a fatal shooting; stolen goods; a cold case; a string of break-ins; a police chase
courts: judges; prosecutors; defense lawyers; jurors; Supreme Court justices
. hear an appeal; convict the accused; overturn a verdict; indict a banker; weigh the evidence
. a plea deal; a life sentence; the trial; a constitutional ruling; the witness stand
transit: commuters; subway riders; bus drivers; train crews; rail operators
. wait on crowded platforms; raise fares; miss connections; repair the tracks; add rush-hour service
. signal delays; a new light-rail line; bike lanes; congestion tolls; the morning commute
storms: forecasters; hurricane watchers; flood victims; emergency crews; residents in the storm's path
. board up windows; flee rising water; brace for high winds; shovel heavy snow; clear fallen trees
. a tornado warning; torrential rain; a blizzard; storm surge; power outages
wildfires: firefighters; smoke jumpers; evacuees; fire chiefs; hillside residents
. battle a blaze; flee the flames; dig containment lines; drop retardant; breathe smoky air
. scorched acres; drought-dry brush; a burning ridge; arson; red flag warnings
religion: pastors; churchgoers; bishops; rabbis; imams
. pray together; preach on Sunday; bless the faithful; fast for Ramadan; light Hanukkah candles
. Easter Mass; the Vatican; a mosque; synagogue services; spiritual life
"""
